"""A folder as a bucket: a disk that is mounted on several hosts, or a trial on one."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from shared.errors import DepotError
from shared.storage.bucket import SMALL, Advance, Entry, Held
from shared.storage.files import beside, path_of, replace_atomically, sync_folder

_PIECE = 1024 * 1024
_SENDING = "sending"


class FolderBucket:
    """A `Bucket` whose objects are files below one folder."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._root = path_of(uri)

    def read(self, key: str) -> Held | None:
        with self._named():
            try:
                with self._opened(key) as file:
                    data = file.read(SMALL + 1)
            except FileNotFoundError:
                return None
        return Held(data, _tag(data))

    def replace(self, key: str, data: bytes, tag: str | None) -> bool:
        path = self._root / key
        with self._named(), self._one_at_a_time():
            held = self.read(key)
            if (held and held.tag) != tag:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(path, data)
        return True

    def upload(self, path: Path, key: str, advance: Advance) -> None:
        target = self._root / key
        with self._named(), path.open("rb") as source, beside(self._root / _SENDING) as temporary:
            with temporary.open("xb") as file:
                while piece := source.read(_PIECE):
                    file.write(piece)
                    advance(len(piece))
                file.flush()
                os.fsync(file.fileno())
            with self._one_at_a_time():
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
            sync_folder(target.parent)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._named():
            try:
                file = self._opened(key)
            except FileNotFoundError as error:
                raise KeyError(key) from error
            with file:
                file.seek(start)
                while piece := file.read(_PIECE):
                    yield piece

    def entries(self, prefix: str) -> Iterator[Entry]:
        with self._named():
            for place, _, names in os.walk(self._root / prefix.rpartition("/")[0]):
                for path in (Path(place, name) for name in sorted(names)):
                    key = path.relative_to(self._root).as_posix()
                    if key.startswith(prefix):
                        with suppress(FileNotFoundError):  # removed meanwhile
                            state = path.stat()
                            changed = f"{state.st_ino}-{state.st_mtime_ns}"
                            yield Entry(key, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC), changed)

    def delete(self, key: str) -> None:
        path = self._root / key
        with self._named(), self._one_at_a_time():
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty yet
                path.parent.rmdir()

    def _opened(self, key: str) -> BinaryIO:
        """Open an object. A link or a pipe is none: who writes the depot could name any file of this host by it."""
        path = self._root / key
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(f"{path} is not a file")
        return file

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the lock under which objects are replaced, and folders made and removed."""
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _named(self) -> Iterator[None]:
        if not self._root.is_dir():
            raise DepotError(f"The depot {self.uri} is not there. Is it mounted? A new one begins as an empty folder.")
        try:
            yield
        except OSError as error:
            raise DepotError(f"The depot {self.uri} cannot be used: {error}.") from error


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
