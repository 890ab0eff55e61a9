"""The audit log of a host: who changed what and when, a line of JSON each, in `DATA/audit.log`.

Any number of processes append to it. Each writes its line whole, under a lock of the file, and syncs it. A file that is
full is renamed to `audit.log.1`, and that to `audit.log.2`; the oldest goes.
"""

import fcntl
import json
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from shared.errors import SimilarityError
from shared.storage.files import sync_folder

NAME, KEPT, MOST_BYTES = "audit.log", 10, 10 * 1024 * 1024
_MOST_IDS, _LONGEST = 20, 200
_SECRETS = re.compile(r"(?<=://)[^/\s@]*@|\?\S+")  # of URLs: who asks, and signatures
_MODE = 0o640

Fact = str | int | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `what`: its facts; of a list, a line has the count and the first ids only."""

    action: str
    actor: Mapping[str, str | int]
    partition: str | None = None
    what: Mapping[str, Fact] = field(default_factory=dict)
    outcome: str = "done"
    request_id: str | None = None

    def line(self) -> bytes:
        """The entry as JSON in ASCII, so that no text of a client ends the line."""
        told = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "actor": self.actor,
            "action": self.action,
            "partition": self.partition,
            "what": {name: _bounded(fact) for name, fact in self.what.items()},
            "request_id": self.request_id,
            "outcome": _SECRETS.sub("", self.outcome)[: 2 * _LONGEST],
        }
        return json.dumps({name: value for name, value in told.items() if value is not None}).encode() + b"\n"


def this_process() -> Mapping[str, str | int]:
    """The actor of a command: the system's user, not what the environment says, and the process."""
    user = str(os.getuid())
    with suppress(KeyError):  # in a container it may have no name
        user = pwd.getpwuid(os.getuid()).pw_name
    return {"user": user, "pid": os.getpid()}


def record(data: Path, entry: Entry) -> None:
    """Append an entry; it is on the disk afterwards. Raises `OSError`, whose text has the line that is not kept."""
    path, line = data / NAME, entry.line()
    try:
        data.mkdir(parents=True, exist_ok=True)
        while not _appended(path, line):
            pass  # another process has renamed the file meanwhile, or this one just did
    except OSError as error:
        said = f"The audit log {path} cannot be written: {error.strerror or error}. It lacks {line.decode().strip()}"
        raise OSError(said) from error


@contextmanager
def audited(
    data: Path, action: str, partition: object = None, what: Mapping[str, Fact] | None = None
) -> Iterator[dict[str, Fact]]:
    """Record an action of this process when it has ended. Facts can be put into what this yields. Raises as `record`
    does, after the action."""
    facts, place = dict(what or {}), str(partition) if partition else None
    try:
        yield facts
    except BaseException as error:
        why = str(error) if isinstance(error, SimilarityError | OSError) else type(error).__name__
        with suppress(OSError):  # the error of the action is told
            record(data, Entry(action, this_process(), place, facts, f"failed: {why}"))
        raise
    record(data, Entry(action, this_process(), place, facts))


def _appended(path: Path, line: bytes) -> bool:
    """Append a line; return False if the file has to be opened again."""
    handle = _opened(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not _is_at(path, handle):
            return False
        size = os.fstat(handle).st_size
        if size and size + len(line) > MOST_BYTES:
            _rename(path)
            return False
        if size and os.pread(handle, 1, size - 1) != b"\n":  # of a process that was killed
            line = b"\n" + line
        try:
            _write(handle, line)
        except OSError:
            os.ftruncate(handle, size)
            raise
        fcntl.flock(handle, fcntl.LOCK_UN)  # who waits need not wait for the disk
        os.fdatasync(handle)
        return True
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """Open the file, or make it. A link is refused, for root may write here what others own."""
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(handle, _MODE)  # whatever the umask
    if os.geteuid() == 0:  # else the server could not append to what a command of root made
        folder = path.parent.stat()
        os.fchown(handle, folder.st_uid, folder.st_gid)
    sync_folder(path.parent)
    return handle


def _is_at(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _rename(path: Path) -> None:
    """Make room for a new file; the caller holds the lock of this one, which is renamed last."""
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEPT))]
    for name, older in reversed([*pairwise(names)]):
        with suppress(FileNotFoundError):
            name.replace(older)


def _write(handle: int, line: bytes) -> None:
    while line:
        line = line[os.write(handle, line) :]


def _bounded(fact: Fact) -> object:
    if isinstance(fact, str):
        return fact[:_LONGEST]
    if isinstance(fact, Sequence):
        return {"count": len(fact), "first": [text[:_LONGEST] for text in fact[:_MOST_IDS]]}
    return fact
