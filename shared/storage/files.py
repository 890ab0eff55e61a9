"""Files that survive a crash: written whole, synced, read back, then renamed into place."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit

_ABANDONED = 3600.0  # seconds; nothing takes so long to write


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The size in bytes and the SHA-256 that a file must have."""

    bytes: int
    sha256: str


def path_of(url: str) -> Path:
    """The path that a `file://` URL names."""
    return Path(unquote(urlsplit(url).path))


def digest_of(path: Path) -> FileDigest:
    """The size and the SHA-256 of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileDigest(path.stat().st_size, sha256)


def write_synced(path: Path, data: bytes | memoryview) -> FileDigest:
    """Write a new file, sync it, read it back. Raises `OSError` if the bytes read differ from those written.

    The reading back is for full disks: some writers lose the last bytes without an error.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    written, wanted = digest_of(path), FileDigest(len(data), hashlib.sha256(data).hexdigest())
    if written != wanted:
        raise OSError(f"{path} was written but does not read back as it should: is the disk full?")
    return written


def copy_synced(source: Path, path: Path) -> FileDigest:
    """Copy a file, sync it, read it back, without holding it in memory. Raises `OSError` as `write_synced` does."""
    shutil.copyfile(source, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    if (written := digest_of(path)) != digest_of(source):
        raise OSError(f"{path} was copied but does not read back as it should: is the disk full?")
    return written


def replace_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, never half of it."""
    with replacing(path) as temporary:
        write_synced(temporary, data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a new file at the path that this yields; it replaces `path` if that went well."""
    with beside(path) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path for a new file that no other process writes, on whatever host; it is removed unless it is moved."""
    for left in path.parent.glob(f".{path.name}.*"):  # by one that was killed
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
    temporary = path.with_name(f".{path.name}.{token_hex(8)}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in this folder last through a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
