"""Which snapshots serve: opens what is current, lays live changes over it, and asks for the networks that photos need.

A snapshot that cannot be opened is refused with a reason, and the one before it goes on serving; so it does until the
network of a new one is loaded. An answer holds on to the snapshot that it began with; the old one is dropped when its
last answer is given.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from server.inference.networks import LOADING, READY, Networks
from server.serving.live_changes import Changes, embed_waiting
from server.serving.reload_signal import ReloadSignal
from shared.embedding.embedder import Embedder
from shared.errors import NotReady, QuestionError, SnapshotError, UnknownPartition
from shared.live.journal import Journal
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder, partitions
from shared.snapshot.lease import Lease
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import SnapshotView

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
_CHANGES_SECONDS, _EMBED_SECONDS = 0.1, 1.0
# A refused snapshot is read again now and then: it may have been seen half-copied.
_RETRY_SECONDS = 10.0


class Snapshots:
    """The open snapshots of a data folder. Reading is safe from many threads; `refresh` is called by one, `look` too.

    `key` is what snapshots must be signed with; `problems` tells what else was refused, before it came here; `networks`
    are those for photos.
    """

    def __init__(
        self,
        data: Path,
        *,
        photos: bool = True,
        key: str | None = None,
        problems: Callable[[], Mapping[str, str]] = dict,
        networks: Networks | None = None,
    ) -> None:
        self._data, self._key, self._problems = data, key, problems
        self._photos = photos
        self._networks = networks or Networks(key)
        self._made: Mapping[str, Snapshot] = {}  # as they were written
        self._open: Mapping[str, SnapshotView] = {}  # as they were changed since
        self._changes = Changes(data)
        self._laying = threading.Lock()
        self._refused: Mapping[str, str] = {}
        self._coming: dict[str, Snapshot] = {}  # current, but its network is still loading
        self._held: dict[str, tuple[str | None, float, str]] = {}  # refused: which, until when, and why
        self._leases: dict[Path, Lease] = {}
        self.refresh()

    @property
    def open(self) -> Mapping[str, SnapshotView]:
        """Partition (as `department/domain`) -> its snapshot, with what was changed live, at this moment."""
        return self._open

    @property
    def refused(self) -> Mapping[str, str]:
        """What does not serve, and why: snapshots, and live changes that cannot be read."""
        return {**self._changes.problems, **self._refused}

    def get(self, partition: str) -> SnapshotView:
        """The snapshot that serves a partition. Raises `UnknownPartition`."""
        try:
            return self._open[partition]
        except KeyError:
            known = ", ".join(self._open) or "none"
            raise UnknownPartition(f"There is no index of {partition!r:.80}. Indexes here: {known}.") from None

    def embedder(self, snapshot: SnapshotView) -> Embedder:
        """The network for photos of that snapshot. Raises `NotReady`; its `embed` may raise `NotReady` and `Busy`."""
        if not self._photos:
            raise NotReady("Photos cannot be searched on this host.")
        return self._networks.embedder(snapshot)

    def photo_search(self, snapshot: SnapshotView) -> str:
        """`off`, `loading`, `ready`, or why photos cannot be searched."""
        return self._networks.state(snapshot) if self._photos else "off"

    def refresh(self) -> None:
        """Open what has become current. What cannot be opened is refused, and logged once."""
        fresh: dict[str, Snapshot] = {}
        refused = dict(self._problems())
        for partition in partitions(self._data):
            name = str(partition)
            serving, why = self._next(partition, self._made.get(name))
            if serving:
                fresh[name] = serving
            if why:
                refused[name] = why
        self._made, self._refused = fresh, refused
        self._need_networks()
        self.look()
        for left in self._leases.keys() - {snapshot.folder for snapshot in (*fresh.values(), *self._coming.values())}:
            self._leases.pop(left).close()

    def _next(self, partition: Partition, serving: Snapshot | None) -> tuple[Snapshot | None, str]:
        """What is to serve a partition where that one does, and why what is current does not, or ""."""
        name, current = str(partition), None
        try:
            current = PartitionFolder(self._data, partition).current()
            if serving and serving.id == current:
                self._coming.pop(name, None)
                return serving, ""
            held, until, why = self._held.get(name, (None, 0.0, ""))
            if current == held and time.monotonic() < until:
                return serving, why
            coming = self._coming.get(name)
            if coming is None or coming.id != current:
                coming = self._coming[name] = self._opened(Snapshot.current(self._data, partition, self._key))
            if serving and not self._takes_over(coming, serving):
                return serving, ""
            _log.info("%s serves snapshot %s (before: %s)", name, coming.id, serving.id if serving else "none")
            return self._coming.pop(name), ""
        except Exception as error:
            expected = isinstance(error, SnapshotError)
            why = str(error) if expected else f"It cannot be opened ({type(error).__name__})."
            if self._refused.get(name) != why:
                _log.error("The snapshot of %s is refused: %s", name, why, exc_info=not expected)
            self._coming.pop(name, None)
            self._held[name] = current, time.monotonic() + _RETRY_SECONDS, why
            return serving or self._before(partition), why

    def _takes_over(self, coming: Snapshot, serving: Snapshot) -> bool:
        """Whether photos lose nothing by it: its network is loaded beside the other one first. Raises `SnapshotError`
        where that cannot be."""
        self._need_networks()  # what is known of them is as old as the last look
        state = self.photo_search(coming)
        if state not in (LOADING, READY, "off") and self.photo_search(serving) == READY:
            raise SnapshotError(f"Photos cannot be searched with the snapshot {coming.id}: {state}")
        return state != LOADING or self.photo_search(serving) != READY

    def _need_networks(self) -> None:
        if self._photos:
            self._networks.need([*self._made.values(), *self._coming.values()])

    def _before(self, partition: Partition) -> Snapshot | None:
        """The snapshot that was current before, for a server that starts while the current one is damaged."""
        with suppress(SnapshotError):
            here = PartitionFolder(self._data, partition)
            if before := here.previous():
                return self._opened(Snapshot(here.snapshot(before), self._key, partition))
        return None

    def _opened(self, snapshot: Snapshot) -> Snapshot:
        self._leases[snapshot.folder] = Lease(snapshot.folder)
        return snapshot

    def look(self) -> None:
        """Take in what was changed live."""
        with self._laying:
            self._open = self._changes.over(self._made)

    def journal(self, snapshot: SnapshotView) -> Journal:
        """The live changes of that snapshot's partition."""
        return Journal(self._data, snapshot.manifest.partition)

    def serving(self) -> dict[str, str]:
        """Partition -> how photos are with it."""
        return {name: self.photo_search(snapshot) for name, snapshot in self._open.items()}

    def follow(self, tell: Callable[[Mapping[str, str]], None] | None = None) -> None:
        """Refresh several times a second, and when it rings, in the background; `tell` the others what serves here.

        Live changes are followed beside that: opening a snapshot may take long, and so may embedding.
        """
        reload_signal, told = ReloadSignal(self._data), dict[str, str]()

        def refresh() -> None:
            self.refresh()
            speak()

        def speak() -> None:
            nonlocal told
            if tell and (now := self.serving()) != told:
                tell(now)
                told = now

        speak()
        _forever("follow-snapshots", lambda: reload_signal.wait(_POLL_SECONDS), refresh)
        _forever("follow-changes", lambda: time.sleep(_CHANGES_SECONDS), self.look)
        _forever("embed-changes", lambda: time.sleep(_EMBED_SECONDS), self._embed_waiting)

    def _embed_waiting(self) -> None:
        for snapshot in self._open.values():
            with suppress(QuestionError):  # it is tried again soon
                embed_waiting(snapshot, self.journal(snapshot), self.embedder)


def _forever(name: str, wait: Callable[[], object], work: Callable[[], None]) -> None:
    """Work after each wait, in the background."""

    def loop() -> None:
        while True:
            wait()
            try:
                work()
            except Exception:
                _log.exception("%s failed; what is open goes on serving", name)

    threading.Thread(target=loop, name=name, daemon=True).start()
