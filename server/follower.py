"""Follows a depot: one process of a host pulls what has become current there, and the workers see it in `CURRENT`.

What the depot does wrong is written beside the snapshots, so that every worker can tell.
"""

import fcntl
import json
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from server.config import ServerConfig
from server.doorbell import Doorbell
from shared.buckets import Bucket, open_bucket
from shared.depot import latest, latest_entries
from shared.errors import SimilarityError, SnapshotError
from shared.files import replace_atomically
from shared.partition import Partition
from shared.pulling import followed_id, pull
from shared.snapshot import current_id

_log = logging.getLogger(__name__)
_POLL_SECONDS = 2.0
# What was refused is fetched again now and then: somebody may have mended it.
_RETRY_SECONDS = 60.0
_DEPOT = "depot"


def problems(data: Path) -> dict[str, str]:
    """What the follower of this data folder could not pull, and why: `department/domain`, or `depot` -> reason."""
    try:
        found: dict[str, str] = json.loads(_problems(data).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


@dataclass(slots=True)
class Follower:
    """Pulls every partition of one depot. `look` is called by one thread of one process."""

    data: Path
    bucket: Bucket
    keep: int = 5
    key: str | None = field(default=None, repr=False)
    _seen: dict[Partition, str] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _retry: float = 0.0

    def look(self, *, again: bool = False) -> None:
        """Pull what has changed in the depot since the last look; what was refused only after a while, or `again`."""
        if again or time.monotonic() > self._retry:
            self._seen = {partition: seen for partition, seen in self._seen.items() if str(partition) not in self._told}
            self._retry = time.monotonic() + _RETRY_SECONDS
        problems = {name: why for name, why in self._told.items() if name != _DEPOT}
        try:
            for partition, entry in latest_entries(self.bucket).items():
                if self._seen.get(partition) != entry.change:
                    problems.pop(str(partition), None)
                    self._seen[partition] = entry.change
                    self._pull(partition, problems)
        except (SimilarityError, OSError) as error:
            problems[_DEPOT] = str(error)
        if problems != self._told:
            for name, why in problems.items():
                if self._told.get(name) != why:
                    _log.error("%s is not followed: %s", name, why)
            replace_atomically(_problems(self.data), json.dumps(problems).encode())
            self._told = problems

    def _pull(self, partition: Partition, problems: dict[str, str]) -> None:
        try:
            now = latest(self.bucket, partition)
            here, followed = current_id(self.data, partition), followed_id(self.data, partition)
            if now and here and followed == now.current != here:
                return  # somebody of this host went back from it
            pulled = pull(self.data, partition, self.bucket, key=self.key, keep=self.keep)
            _log.info("%s was pulled: snapshot %s", partition, pulled)
        except (SnapshotError, OSError) as error:
            problems[str(partition)] = str(error)
        except SimilarityError as error:  # the depot is away, or another pull is at work: it is worth asking again
            problems[str(partition)] = str(error)
            del self._seen[partition]


def follow(config: ServerConfig) -> None:
    """Follow the depot in the background, as soon as no other process of this host does."""
    if config.depot:
        threading.Thread(target=_follow, args=(config, config.depot), name="follow-depot", daemon=True).start()


def _follow(config: ServerConfig, depot: str) -> None:
    folder = config.data / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    doorbell = Doorbell(config.data)
    with (folder / ".follower.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the one who follows has ended
        follower = Follower(config.data, open_bucket(depot), config.keep, config.signing_key)
        rang = False
        while True:
            try:
                follower.look(again=rang)
            except Exception:
                _log.exception("Looking into the depot failed; what is here goes on serving")
            rang = doorbell.wait(_POLL_SECONDS)


def _problems(data: Path) -> Path:
    return data / "snapshots" / ".problems.json"
