"""One partition of the data folder: open its current snapshot, and decide when it takes over."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.telemetry.audit import note
from shared.audit import Entry, this_process
from shared.errors import SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.lease import Lease
from shared.snapshot.reader import Snapshot

# A refused snapshot is read again now and then: it may have been seen half-copied.
_RETRY_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refused:
    """The id that was current, why its snapshot does not serve, and until when it is not tried again."""

    snapshot_id: str | None
    reason: str
    until: float


class ServedPartition:
    """The snapshot that serves a partition, and the next one while its network is loading. Used by one thread.

    `serving` and `loading` are snapshots as they were written; `refusal` says why the current one does not serve, or is
    empty. `takes_over` tells whether a new snapshot may serve in place of an old one, or raises `SnapshotError`.
    """

    def __init__(
        self, data: Path, partition: Partition, key: str | None, takes_over: Callable[[Snapshot, Snapshot], bool]
    ) -> None:
        self._data, self._partition, self._key, self._takes_over = data, partition, key, takes_over
        self._folder = PartitionFolder(data, partition)
        self.serving: Snapshot | None = None
        self.loading: Snapshot | None = None
        self.refusal = ""
        self._refused: _Refused | None = None  # the last one, which is still refused or was gone back from
        self._leases: dict[Path, Lease] = {}

    @property
    def snapshots(self) -> list[Snapshot]:
        """All open snapshots."""
        return [snapshot for snapshot in (self.serving, self.loading) if snapshot]

    def refresh(self) -> None:
        """Open the current snapshot if it is a new one. One that cannot be opened is refused, and logged once."""
        current = None
        try:
            current = self._folder.current()
            self._follow(current)
        except Exception as error:
            expected = isinstance(error, SnapshotError)
            reason = str(error) if expected else f"It cannot be opened ({type(error).__name__})."
            if self.refusal != reason:
                _log.error("The snapshot of %s is refused: %s", self._partition, reason, exc_info=not expected)
                entry = Entry("open", this_process(), str(self._partition), {"snapshot": current}, f"refused: {reason}")
                note(self._data, entry)
            self._refused = _Refused(current, reason, time.monotonic() + _RETRY_SECONDS)
            self.refusal, self.loading = reason, None
            self.serving = self.serving or self._previous()

    def release(self, *, everything: bool = False) -> None:
        """End the leases of snapshots that are no longer open."""
        kept = set() if everything else {snapshot.folder for snapshot in self.snapshots}
        for folder in self._leases.keys() - kept:
            self._leases.pop(folder).close()

    def _follow(self, current: str | None) -> None:
        """Serve the snapshot of that id, or keep it until its network is loaded. Raises whatever opening it raises."""
        refused = self._refused
        if self.serving and self.serving.id == current:
            self.loading, self.refusal = None, ""
            return
        if refused and refused.snapshot_id == current and time.monotonic() < refused.until:
            self.refusal = refused.reason
            return
        if self.loading is None or self.loading.id != current:
            self.loading = self._opened(Snapshot.current(self._data, self._partition, self._key))
        if not self.serving or self._takes_over(self.loading, self.serving):
            before = self.serving.id if self.serving else "none"
            _log.info("%s serves snapshot %s (before: %s)", self._partition, self.loading.id, before)
            self.serving, self.loading = self.loading, None
        self.refusal = ""

    def _previous(self) -> Snapshot | None:
        """The snapshot that was current before, for a server that starts while the current one is damaged."""
        with suppress(SnapshotError):
            if previous := self._folder.previous():
                return self._opened(Snapshot(self._folder.snapshot(previous), self._key, self._partition))
        return None

    def _opened(self, snapshot: Snapshot) -> Snapshot:
        self._leases[snapshot.folder] = Lease(snapshot.folder)
        return snapshot
