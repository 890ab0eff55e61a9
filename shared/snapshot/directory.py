"""A partition's folder on this host: which snapshots are there, which one serves, and who may change that."""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import ConfigError, SnapshotError
from shared.partition import Partition
from shared.snapshot.lease import is_leased
from shared.snapshot.manifest import HASH_DIGITS
from shared.snapshot.verify import verify
from shared.storage.files import replace_atomically

_ID = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]{{{HASH_DIGITS}}}")


def activate(data: Path, partition: Partition, snapshot_id: str) -> None:
    """Make this snapshot the one that serves."""
    folder = partition.folder(data)
    with suppress(SnapshotError):  # an unreadable CURRENT is replaced, not remembered
        before = current_id(data, partition)
        if before and before != snapshot_id:
            replace_atomically(folder / "PREVIOUS", before.encode() + b"\n")
    replace_atomically(folder / "CURRENT", snapshot_id.encode() + b"\n")


@contextmanager
def exclusive(data: Path, partition: Partition, task: str = "indexing") -> Iterator[None]:
    """Only one run at a time may do this to a partition. Raises `ConfigError` where another one does."""
    folder = partition.folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{task}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"Another run is {task} {partition} in {data}. Wait for its end.") from error
        yield


def current_id(data: Path, partition: Partition) -> str | None:
    """The id of the snapshot that serves, or None where there is none. Raises `SnapshotError` if it is unreadable."""
    return _named_in(partition.folder(data) / "CURRENT")


def previous_id(data: Path, partition: Partition) -> str | None:
    """The id of the snapshot that served before, or None. Raises `SnapshotError` if it is unreadable."""
    return _named_in(partition.folder(data) / "PREVIOUS")


def snapshot_ids(data: Path, partition: Partition) -> list[str]:
    """The ids of all snapshots of a partition on this host, newest first."""
    return sorted(filter(is_id, (path.name for path in partition.folder(data).glob("*"))), reverse=True)


def is_id(text: str) -> bool:
    """Whether this is the form of a snapshot's id, and so safe in a path."""
    return _ID.fullmatch(text) is not None


def go_back(data: Path, partition: Partition, to: str | None = None, key: str | None = None) -> str:
    """Serve the snapshot `to` again, or the one that served before; return its id.

    Raises `SnapshotError` where it is not there, damaged or not signed as it should be; then nothing has changed.
    """
    wanted = to or previous_id(data, partition)
    if to is None and wanted == current_id(data, partition):  # a run was killed between PREVIOUS and CURRENT
        wanted = None
    with _choosing(data, partition):
        known = snapshot_ids(data, partition)
        if wanted not in known:
            which = f"The snapshot {to} is not" if to else "The one that served before is no longer"
            given = " or ".join(known) or "(there is none)"
            raise SnapshotError(f"{which} on this host. Give one of them: TO={given}.")
        verify(partition.folder(data) / wanted, key, partition)
        activate(data, partition, wanted)
    return wanted


def keep_newest(data: Path, partition: Partition, keep: int) -> list[str]:
    """Remove all but the newest `keep` snapshots, never the current or the previous one, nor one that a server of this
    host still serves; return the removed ids."""
    folder = partition.folder(data)
    with _choosing(data, partition):
        spared = {current_id(data, partition), previous_id(data, partition)}
        removed = [
            snapshot_id
            for snapshot_id in snapshot_ids(data, partition)[keep:]
            if snapshot_id not in spared and not is_leased(folder / snapshot_id)
        ]
        for snapshot_id in removed:
            shutil.rmtree(folder / snapshot_id)
    return removed


@contextmanager
def _choosing(data: Path, partition: Partition) -> Iterator[None]:
    """Nobody else removes a snapshot, or goes back to one, meanwhile."""
    folder = partition.folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".choosing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def partitions(data: Path) -> list[Partition]:
    """The partitions that have a current snapshot below the data folder."""
    found = []
    for path in (data / "snapshots").glob("*/*/CURRENT"):
        with suppress(ConfigError):  # somebody else's folder
            found.append(Partition(path.parent.parent.name, path.parent.name))
    return sorted(found)


def _named_in(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
