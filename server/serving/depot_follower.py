"""Follow a depot: one process of a host pulls each snapshot that becomes current there, and the workers see it in
`CURRENT`.

What the depot does wrong is written beside the snapshots, so that every worker can tell.
"""

import fcntl
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from server.config import ServerConfig
from server.serving.reload_signal import ReloadSignal
from server.telemetry.audit import note
from shared.audit import Entry, this_process
from shared.depot.depot import DepotPartition, latest_entries
from shared.depot.pull import pull
from shared.errors import SimilarityError, SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.storage.bucket import Bucket
from shared.storage.buckets import open_bucket
from shared.storage.files import replace_atomically

_log = logging.getLogger(__name__)
_POLL_SECONDS = 2.0
# What was refused is fetched again now and then: somebody may have mended it.
_RETRY_SECONDS = 60.0
_DEPOT = "depot"


@dataclass(frozen=True, slots=True)
class _Told:
    """The follower's message to the workers."""

    problems: dict[str, str] = field(default_factory=dict)
    coming: list[str] = field(default_factory=list)


def problems(data: Path) -> dict[str, str]:
    """The partitions that the follower of this data folder could not pull, and why: `department/domain`, or `depot` ->
    reason."""
    return _told(data).problems


def coming(data: Path) -> list[str]:
    """Partitions that a host without them pulls first, before it is ready."""
    return _told(data).coming


def looked_at(data: Path) -> float:
    """The time of the follower's last look into the depot, in seconds since 1970; 0 for never."""
    try:
        return _place(data).stat().st_mtime
    except OSError:
        return 0


class Follower:
    """The follower of one depot, which pulls every partition. `look` is called by one thread of one process."""

    def __init__(self, data: Path, bucket: Bucket, keep: int = 5, key: str | None = None) -> None:
        self._data, self._bucket, self._keep, self._key = data, bucket, keep, key
        self._told: dict[str, str] = {}
        self._seen: dict[Partition, str] = {}
        self._first = True
        self._retry = 0.0

    def look(self, *, again: bool = False) -> None:
        """Pull the partitions that changed in the depot since the last look; refused ones only after a while, or
        `again`."""
        if again or time.monotonic() > self._retry:
            self._seen = {partition: seen for partition, seen in self._seen.items() if str(partition) not in self._told}
            self._retry = time.monotonic() + _RETRY_SECONDS
        found = {name: why for name, why in self._told.items() if name != _DEPOT}
        try:
            entries = latest_entries(self._bucket)
            found = {str(partition): found[str(partition)] for partition in entries if str(partition) in found}
            if self._first:
                self._tell(found, [str(each) for each in entries if self._here(each).current_if_there() is None])
                self._first = False
            for partition, entry in entries.items():
                if self._seen.get(partition) != entry.change:
                    found.pop(str(partition), None)
                    self._seen[partition] = entry.change
                    if why := self._pull(partition):
                        found[str(partition)] = why
        except (SimilarityError, OSError) as error:
            found[_DEPOT] = str(error)
        self._tell(found)

    def _pull(self, partition: Partition) -> str:
        """Pull it, unless somebody of this host went back from it. Returns why that failed, or ""."""
        here = self._here(partition)
        try:
            depot = DepotPartition(self._bucket, partition, self._key, here)
            now, current = depot.accepted(), here.current_if_there()
            if now and current and here.pulled() == now.current != current:
                return ""
            pulled = pull(here, self._bucket, key=self._key)
            if pulled != current:
                self._note(str(partition), "done", pulled)
            _log.info("%s was pulled: snapshot %s", partition, pulled)
        except (SnapshotError, OSError) as error:
            return str(error)
        except SimilarityError as error:  # the depot is away, or another pull is at work: it is worth asking again
            del self._seen[partition]
            return str(error)
        except Exception as error:
            _log.exception("Pulling %s failed", partition)
            return f"Pulling it failed ({type(error).__name__})."
        try:
            here.keep_newest(self._keep)
        except (SnapshotError, OSError) as error:
            _log.warning("Old snapshots of %s could not be removed: %s", partition, error)
        return ""

    def _here(self, partition: Partition) -> PartitionFolder:
        return PartitionFolder(self._data, partition)

    def _note(self, partition: str, outcome: str, snapshot: str | None = None) -> None:
        what = {"depot": self._bucket.uri, "snapshot": snapshot}
        note(self._data, Entry("follow", this_process(), partition, what, outcome))

    def _tell(self, found: dict[str, str], coming: Sequence[str] = ()) -> None:
        """Log new problems, and write all down for the workers; the file's time is the follower's sign of life."""
        for name, why in found.items():
            if self._told.get(name) != why:
                _log.error("%s is not followed: %s", name, why)
                self._note(name, f"refused: {why}")
        self._told, told = found, _Told(found, [*coming])
        try:
            if _told(self._data) != told:
                replace_atomically(_place(self._data), json.dumps(asdict(told)).encode())
            _place(self._data).touch()
        except OSError as error:
            _log.warning("What the depot does wrong cannot be written down: %s", error)


def follow(config: ServerConfig) -> None:
    """Follow the depot in the background, as soon as no other process of this host does."""
    if config.depot:
        threading.Thread(target=_follow, args=(config, config.depot), name="follow-depot", daemon=True).start()


def _follow(config: ServerConfig, depot: str) -> None:
    while True:
        try:
            _follow_alone(config, depot)
        except Exception as error:
            unexpected = not isinstance(error, SimilarityError | OSError)
            why = "The depot cannot be followed, which is tried again; what is here goes on serving: %s"
            _log.error(why, error, exc_info=unexpected)
        time.sleep(_RETRY_SECONDS)


def _follow_alone(config: ServerConfig, depot: str) -> None:
    folder = config.data / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    reload_signal = ReloadSignal(config.data)
    with (folder / ".follower.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the one who follows has ended
        follower = Follower(config.data, open_bucket(depot), config.keep, config.signing_key)
        rang = False
        while True:
            follower.look(again=rang)
            rang = reload_signal.wait(_POLL_SECONDS)


def _told(data: Path) -> _Told:
    try:
        return _Told(**json.loads(_place(data).read_bytes()))
    except (OSError, ValueError, TypeError):
        return _Told()


def _place(data: Path) -> Path:
    return data / "snapshots" / ".follower.json"
