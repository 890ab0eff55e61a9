"""A partition's folder on this host: its snapshots, which one serves, and the locks under which that changes.

<data>/snapshots/371/0341/CURRENT      the id of the snapshot that serves; replaced last
<data>/snapshots/371/0341/PREVIOUS     the id of the one that served before
<data>/snapshots/371/0341/<id>/        a snapshot
.writing  .pulling                     snapshots that are not complete yet
.pulled                                the id that was pulled last
.latest-<hash of its address>          the newest LATEST of that depot that was accepted
.indexing.lock  .pulling.lock          held by long work of one kind: one run at a time
.choosing.lock                         held for a moment by whoever adds, chooses or removes a snapshot
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shared.errors import ConfigError, SnapshotError
from shared.partition import Partition
from shared.snapshot.lease import Lease, remove_unless_leased
from shared.snapshot.manifest import HASH_DIGITS
from shared.snapshot.verify import verify
from shared.storage.files import digest_of, replace_atomically, sync_folder

_ID = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]{{{HASH_DIGITS}}}")


class Task(StrEnum):
    """Long work on a partition that only one run does at a time."""

    INDEXING = "indexing"
    PULLING = "pulling"


@dataclass(frozen=True, slots=True)
class PartitionFolder:
    """The folder of one partition's snapshots below a data folder."""

    data: Path
    partition: Partition

    @property
    def path(self) -> Path:
        return self.data / "snapshots" / self.partition.department / self.partition.domain

    @property
    def writing(self) -> Path:
        """The folder in which a new snapshot is written."""
        return self.path / ".writing"

    @property
    def pulling(self) -> Path:
        """The folder into which a snapshot is fetched, in a folder of its name."""
        return self.path / ".pulling"

    def snapshot(self, snapshot_id: str | None = None) -> Path:
        """The folder of that snapshot, or of the one that serves.

        Raises `SnapshotError` where none serves, or where the id has not the form of one and so is not safe in a path.
        """
        wanted = self.current() if snapshot_id is None else snapshot_id
        if wanted is None:
            raise SnapshotError(f"There is no snapshot of {self.partition} in {self.data}. Make one: make index.")
        if not is_id(wanted):
            named_by = self.path / "CURRENT" if snapshot_id is None else repr(snapshot_id)
            raise SnapshotError(f"{named_by} does not name a snapshot. To see those that are there: make snapshots.")
        return self.path / wanted

    def current(self) -> str | None:
        """The id of the snapshot that serves, or None if there is none. Raises `SnapshotError` if it is unreadable."""
        return self._named_in("CURRENT")

    def previous(self) -> str | None:
        """The id of the snapshot that served before, or None. Raises `SnapshotError` if it is unreadable."""
        return self._named_in("PREVIOUS")

    def current_if_there(self) -> str | None:
        """The id of the current snapshot; None if its folder is missing, or CURRENT is damaged."""
        with suppress(SnapshotError):
            current = self.current()
            return current if current and self.snapshot(current).is_dir() else None
        return None

    def ids(self) -> list[str]:
        """The ids of all snapshots here, newest first."""
        return sorted(filter(is_id, (path.name for path in self.path.glob("*"))), reverse=True)

    def pulled(self) -> str | None:
        """The id that was pulled last. If another one is current, somebody chose it on this host."""
        with suppress(SnapshotError):
            return self._named_in(".pulled")
        return None

    def note_pulled(self, snapshot_id: str) -> None:
        """Remember which snapshot was pulled last."""
        self._name_in(".pulled", snapshot_id)

    def latest_seen(self, depot: str) -> bytes | None:
        """The newest LATEST of the depot at that address that this host has accepted, as it was there."""
        with suppress(FileNotFoundError):
            return self._latest_of(depot).read_bytes()
        return None

    def note_latest(self, depot: str, content: bytes) -> None:
        """Remember that LATEST of the depot was accepted."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace_atomically(self._latest_of(depot), content)

    @contextmanager
    def exclusive(self, task: Task = Task.INDEXING) -> Iterator[None]:
        """Hold the lock of long work. Raises `ConfigError` if another run holds it."""
        with ExitStack() as held:
            try:
                held.enter_context(self._locked(task, fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise ConfigError(
                    f"Another run is {task} {self.partition} in {self.data}. Wait for its end."
                ) from error
            yield

    def add(self, incoming: Path, snapshot_id: str) -> Lease:
        """Move a complete snapshot into its place. It does not serve before `activate`; the lease keeps it till then.

        One that is there already may serve: it is mended file by file, and never gone. What is right stays, so that
        leases on it do, too.
        """
        folder = self.snapshot(snapshot_id)
        with self._choosing():
            if folder.is_dir():
                for path in incoming.iterdir():
                    if not _is_same(path, folder / path.name):
                        path.replace(folder / path.name)
                sync_folder(folder)
                shutil.rmtree(incoming)
            else:
                incoming.rename(folder)
            sync_folder(self.path)
            return Lease(folder)

    def activate(self, snapshot_id: str) -> None:
        """Make this snapshot the one that serves. Raises `SnapshotError` if it is not there."""
        with self._choosing():
            self._activate(snapshot_id)

    def go_back(self, to: str | None = None, key: str | None = None) -> str:
        """Serve the snapshot `to` again, or the one that served before; return its id.

        Raises `SnapshotError` where it is not there, damaged or not signed as it should be; then nothing has changed.
        """
        with self._choosing():
            wanted = to or self.previous()
            if to is None and wanted == self.current():  # a run was killed between PREVIOUS and CURRENT
                wanted = None
            known = self.ids()
            if wanted not in known:
                which = f"The snapshot {to} is not" if to else "The one that served before is no longer"
                given = " or ".join(known) or "(there is none)"
                raise SnapshotError(f"{which} on this host. Give one of them: TO={given}.")
            verify(self.snapshot(wanted), key, self.partition)
            self._activate(wanted)
        return wanted

    def keep_newest(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` snapshots, never the current or the previous one, nor one that anybody has a
        lease on; return the removed ids."""
        with self._choosing():
            spared = {self.current(), self.previous()}
            old = [snapshot_id for snapshot_id in self.ids()[keep:] if snapshot_id not in spared]
            return [snapshot_id for snapshot_id in old if remove_unless_leased(self.snapshot(snapshot_id))]

    def _activate(self, snapshot_id: str) -> None:
        """Make it the one that serves; the caller holds the lock."""
        if not (self.snapshot(snapshot_id) / "manifest.json").is_file():
            raise SnapshotError(f"The snapshot {snapshot_id} is not in {self.path}. Pull it, or index again.")
        with suppress(SnapshotError):  # an unreadable CURRENT is replaced, not remembered
            before = self.current()
            if before == snapshot_id:
                return
            if before:
                self._name_in("PREVIOUS", before)
        self._name_in("CURRENT", snapshot_id)

    def _choosing(self) -> AbstractContextManager[None]:
        """Wait for the lock under which snapshots are added, chosen and removed. `make ship` takes it on the other
        host."""
        return self._locked("choosing", fcntl.LOCK_EX)

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, how)
            yield

    def _latest_of(self, depot: str) -> Path:
        return self.path / f".latest-{hashlib.sha256(depot.encode()).hexdigest()[:16]}"

    def _named_in(self, name: str) -> str | None:
        path = self.path / name
        try:
            return path.read_text("ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            raise SnapshotError(f"{path} cannot be read: {error}.") from error

    def _name_in(self, name: str, snapshot_id: str) -> None:
        replace_atomically(self.path / name, snapshot_id.encode() + b"\n")


def is_id(text: str) -> bool:
    """Tell whether the text has the form of a snapshot's id, and so is safe in a path."""
    return _ID.fullmatch(text) is not None


def partitions(data: Path) -> list[Partition]:
    """The partitions that have a current snapshot below the data folder."""
    found = []
    for path in (data / "snapshots").glob("*/*/CURRENT"):
        with suppress(ConfigError):  # somebody else's folder
            found.append(Partition(path.parent.parent.name, path.parent.name))
    return sorted(found)


def _is_same(path: Path, other: Path) -> bool:
    with suppress(OSError):  # it is not there, or cannot be read
        return digest_of(path) == digest_of(other)
    return False
