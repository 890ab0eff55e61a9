"""Photos take turns: how many a worker has under way, and how many all workers of a server embed at once.

Every worker has the network itself. If each embedded what it is sent at once, they would take the cores from each other
and from what needs no network. So a photo waits for one of the places that all workers share: locks on files, which end
with the process that holds them.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore

from shared.errors import Busy

MOST_WAITING = 32  # photos of all workers
_FEWEST, _MOST = 4, 20  # of one worker, which has more threads: the others answer what needs no network
_LONGEST_WAIT = 10.0
_LOOK_SECONDS = 0.001


class Turns:
    """The turns of one worker among `workers`. Safe to use from many threads.

    `places`: one file for each photo that all of them embed at once; without any, only this process's take turns.
    """

    def __init__(self, places: tuple[Path, ...] = (), workers: int = 1) -> None:
        self._places = places
        self.most = min(_MOST, max(_FEWEST, MOST_WAITING // workers))
        self._under_way = BoundedSemaphore(self.most)
        self._embedding = BoundedSemaphore(max(1, len(places)))

    @contextmanager
    def under_way(self, *, wait: bool = False) -> Iterator[None]:
        """One photo from its first byte decoded to its vector. Raises `Busy` where it need not wait for its turn."""
        if not self._under_way.acquire(blocking=wait):
            raise Busy(f"{self.most} photos are being searched already. Send it again in some seconds.")
        try:
            yield
        finally:
            self._under_way.release()

    @contextmanager
    def embedding(self) -> Iterator[None]:
        """The cores, for one photo. Raises `Busy` where that takes too long."""
        end = time.monotonic() + _LONGEST_WAIT
        if not self._embedding.acquire(timeout=_LONGEST_WAIT):
            raise _too_long()
        try:
            with self._place(end):
                yield
        finally:
            self._embedding.release()

    @contextmanager
    def _place(self, end: float) -> Iterator[None]:
        """One of the places. Nobody waits for them in line, but of each worker at most as many as there are places."""
        if not self._places:
            yield
            return
        while True:
            for path in self._places:
                with path.open("rb") as place:
                    try:
                        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    yield
                    return
            if time.monotonic() > end:
                raise _too_long()
            time.sleep(_LOOK_SECONDS)


def _too_long() -> Busy:
    return Busy(f"The photo waited {_LONGEST_WAIT:.0f} seconds for the network. Send it again later.")
