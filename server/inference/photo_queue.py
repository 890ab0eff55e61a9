"""The queue in which the photos of all workers wait for the cores. It limits how many are decoded and embedded at once.

Every worker has its own network. If each embedded its photos at once, the workers would take the cores from each other,
and from requests that need no network. So all photos stand in one queue, and those that wait longest are embedded.

The queue is a file that all workers map into memory: for each place, the time since which its photo waits, or 0. The
worker that has a place holds a lock on it, which ends with the process.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock, local

import numpy as np
from numpy.typing import NDArray

from shared.errors import Busy

PLACES = 32  # photos of all workers
_OF_ONE = 20  # worker, which has more threads: the others answer what needs no network
_LONGEST_WAIT = 10.0
_LOOK_SECONDS, _DEAD_SECONDS = 0.001, 0.2


def _nobody_left() -> None:
    """The check of photos that somebody waits for to the end."""


class PhotoQueue:
    """The queue as one worker sees it. `line` is the file of all workers, of `PLACES` float64; without it, only photos
    of this process queue. `at_once`: how many are embedded at the same time. Safe to use from many threads."""

    def __init__(self, line: Path | None = None, at_once: int = 1) -> None:
        self._file = os.open(line, os.O_RDWR) if line else None
        self._since: NDArray[np.float64] = np.memmap(line, np.float64, "r+") if line else np.zeros(PLACES)
        self._at_once, self._mine, self._choosing = at_once, set[int](), Lock()
        self._moved = Condition()  # a photo of this worker left the queue
        self._thread = local()

    @contextmanager
    def under_way(self, check: Callable[[], None] = _nobody_left, *, wait: bool = False) -> Iterator[None]:
        """Hold a place for one photo, while it is decoded and embedded. Raises `Busy` if all places are taken: at once,
        or if it can `wait`, after ten seconds; and whatever `check` raises, which is called again and again until the
        photo has its turn."""
        check()
        end = time.monotonic() + (_LONGEST_WAIT if wait else 0)
        place = self._taken()
        while place is None:
            if time.monotonic() >= end:
                raise Busy("Many photos are being searched already. Send it again in some seconds.")
            time.sleep(10 * _LOOK_SECONDS)
            check()
            place = self._taken()
        self._thread.place, self._thread.check = place, check
        try:
            yield
        finally:
            self._thread.place = self._thread.check = None
            self._leave(place)

    @contextmanager
    def embedding(self) -> Iterator[None]:
        """Hold the cores for one photo, or for a product that is put. Raises `Busy` if that takes too long."""
        place = getattr(self._thread, "place", None)
        if place is None:
            with self.under_way(wait=True), self.embedding():
                yield
            return
        self._since[place] = time.monotonic()
        try:
            self._wait(place, self._thread.check)
            yield
        finally:
            self._since[place] = 0
            with self._moved:
                self._moved.notify_all()

    def _wait(self, place: int, check: Callable[[], None]) -> None:
        """Wait until it is this place's turn. Of a worker's photos, only the first polls the file."""
        began = looked = self._since[place]
        while True:
            check()
            ahead = self._ahead(place)
            if len(ahead) < self._at_once:
                return
            now = time.monotonic()
            if now - began > _LONGEST_WAIT:
                raise Busy(f"The photo waited {_LONGEST_WAIT:.0f} seconds for the network. Send it again later.")
            if now - looked > _DEAD_SECONDS:
                looked = now
                self._free_the_dead(ahead)
            if self._mine.isdisjoint(ahead):
                time.sleep(_LOOK_SECONDS * min(8, len(ahead)))
            else:
                with self._moved:
                    self._moved.wait(_DEAD_SECONDS)

    def _ahead(self, place: int) -> list[int]:
        """The places of photos that wait longer, or are being embedded."""
        mine = self._since[place]
        earlier = (self._since > 0) & ((self._since < mine) | ((self._since == mine) & (np.arange(PLACES) < place)))
        found: list[int] = np.flatnonzero(earlier).tolist()
        return found

    def _free_the_dead(self, places: list[int]) -> None:
        """Free the places whose process has ended, and so holds no lock any more."""
        for place in places:
            with self._choosing:
                if place not in self._mine and self._lock(place):
                    self._since[place] = 0
                    self._unlock(place)

    def _taken(self) -> int | None:
        """Take a free place, if there is one."""
        with self._choosing:
            if len(self._mine) < _OF_ONE:
                for place in range(PLACES):
                    if place not in self._mine and self._lock(place):
                        self._since[place] = 0
                        self._mine.add(place)
                        return place
        return None

    def _leave(self, place: int) -> None:
        with self._choosing:
            self._mine.discard(place)
            self._unlock(place)

    def _lock(self, place: int) -> bool:
        """Lock a place against other processes; this one's own are in `_mine`. Returns False if another has it."""
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        return True

    def _unlock(self, place: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
