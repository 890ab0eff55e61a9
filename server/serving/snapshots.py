"""The snapshots that serve: opened when they become current, with live changes in them, and networks for photos.

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

from server.inference.networks import Networks
from server.inference.photo_state import LOADING, OFF, READY, PhotoSearch, PhotoState
from server.serving.live_changes import LiveChanges, embed_waiting
from server.serving.reload_signal import ReloadSignal
from server.serving.served_partition import ServedPartition
from shared.embedding.embedder import Embedder
from shared.errors import NotReady, QuestionError, SnapshotError, UnknownPartition
from shared.live.journal import Journal
from shared.snapshot.directory import partitions
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import SnapshotView

_POLL_SECONDS = 0.25
_CHANGES_SECONDS, _EMBED_SECONDS = 0.1, 1.0
_log = logging.getLogger(__name__)


class Snapshots:
    """The open snapshots of a data folder. Reading is safe from many threads; `refresh` is called by one.

    `key` is what snapshots must be signed with; `problems` tells what else was refused, before it came here; `networks`
    are those for photos, which are searched only where `photos` is true.
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
        self._data, self._key, self._problems, self._photos = data, key, problems, photos
        self._networks = networks or Networks(key)
        self._partitions: dict[str, ServedPartition] = {}
        self._written: Mapping[str, Snapshot] = {}
        self._views: Mapping[str, SnapshotView] = {}
        self._refused: Mapping[str, str] = {}
        self._changes = LiveChanges(data)
        self._changing = threading.Lock()
        self.refresh()

    @property
    def open(self) -> Mapping[str, SnapshotView]:
        """Partition (as `department/domain`) -> its snapshot with its live changes, at this moment."""
        return self._views

    @property
    def refused(self) -> Mapping[str, str]:
        """The snapshots that cannot be read, by partition, and why."""
        return self._refused

    @property
    def damaged(self) -> Mapping[str, str]:
        """Partition -> which of its live changes are damaged or cannot be read, and the remedy."""
        return self._changes.problems

    def get(self, partition: str) -> SnapshotView:
        """The snapshot that serves a partition. Raises `UnknownPartition`."""
        try:
            return self._views[partition]
        except KeyError:
            known = ", ".join(self._views) or "none"
            raise UnknownPartition(f"There is no index of {partition!r:.80}. Indexes here: {known}.") from None

    def journal(self, snapshot: SnapshotView) -> Journal:
        """The live changes of that snapshot's partition. Raises `JournalDamaged` if they cannot be read."""
        self._changes.check(str(snapshot.manifest.partition))
        return Journal(self._data, snapshot.manifest.partition)

    def embedder(self, snapshot: SnapshotView) -> Embedder:
        """The network for photos of that snapshot. Raises `NotReady`; its `embed` may raise `NotReady` and `Busy`."""
        if not self._photos:
            raise NotReady("Photos cannot be searched on this host.")
        return self._networks.embedder(snapshot)

    def photo_state(self, snapshot: SnapshotView) -> PhotoState:
        """The state of photo search: whether photos can be searched with that snapshot."""
        return self._networks.state(snapshot) if self._photos else OFF

    def photo_states(self) -> dict[str, PhotoState]:
        """Partition -> whether photos can be searched with the snapshot that serves it."""
        return {name: self.photo_state(snapshot) for name, snapshot in self._views.items()}

    def refresh(self) -> None:
        """Open the snapshots that have become current. One that cannot be opened is refused, and logged once."""
        problems = self._problems()
        found = {str(partition): partition for partition in partitions(self._data)}
        gone = [self._partitions.pop(name) for name in self._partitions.keys() - found.keys()]
        for name, partition in found.items():
            if name not in self._partitions:
                self._partitions[name] = ServedPartition(self._data, partition, self._key, self._takes_over)
            self._partitions[name].refresh()
        served = {name: self._partitions[name] for name in found}
        self._written = {name: one.serving for name, one in served.items() if one.serving}
        self._refused = {**problems, **{name: one.refusal for name, one in served.items() if one.refusal}}
        self._need_networks()
        self.apply_changes()
        for one in gone:
            one.release(everything=True)
        for one in served.values():
            one.release()

    def apply_changes(self) -> None:
        """Apply new live changes to the views."""
        with self._changing:
            self._views = self._changes.views(self._written)

    def follow(self, tell: Callable[[Mapping[str, PhotoState]], None] | None = None) -> None:
        """Refresh several times a second, and at the reload signal, in the background; `tell` others what serves here.

        Live changes are followed beside that: opening a snapshot may take long, and so may embedding.
        """
        reload_signal, told = ReloadSignal(self._data), dict[str, PhotoState]()

        def refresh() -> None:
            self.refresh()
            tell_news()

        def tell_news() -> None:
            nonlocal told
            if tell and (now := self.photo_states()) != told:
                tell(now)
                told = now

        tell_news()
        _repeat("follow-snapshots", lambda: reload_signal.wait(_POLL_SECONDS), refresh)
        _repeat("follow-changes", lambda: time.sleep(_CHANGES_SECONDS), self.apply_changes)
        _repeat("embed-changes", lambda: time.sleep(_EMBED_SECONDS), self._embed_waiting)

    def _takes_over(self, new: Snapshot, old: Snapshot) -> bool:
        """Tell whether photos lose nothing by the new snapshot: its network is loaded beside the old one first. Raises
        `SnapshotError` if it cannot be loaded."""
        self._need_networks()  # what is known of them is as old as the last refresh
        if self.photo_state(old) != READY:
            return True
        state = self.photo_state(new)
        if state.state is PhotoSearch.FAILED:
            raise SnapshotError(f"Photos cannot be searched with the snapshot {new.id}: {state.reason}")
        return state != LOADING

    def _need_networks(self) -> None:
        if self._photos:
            self._networks.need([snapshot for one in self._partitions.values() for snapshot in one.snapshots])

    def _embed_waiting(self) -> None:
        for snapshot in self._views.values():
            with suppress(QuestionError):  # it is tried again soon
                embed_waiting(snapshot, self.journal(snapshot), self.embedder)


def _repeat(name: str, wait: Callable[[], object], work: Callable[[], None]) -> None:
    """Work after each wait, in the background, for ever."""

    def loop() -> None:
        while True:
            wait()
            try:
                work()
            except Exception:
                _log.exception("%s failed; what is open goes on serving", name)

    threading.Thread(target=loop, name=name, daemon=True).start()
