"""Verify every byte of a snapshot before anything reads it."""

from pathlib import Path

from shared.errors import SnapshotError
from shared.partition import Partition
from shared.snapshot.manifest import SIGNATURE, Manifest, checked_manifest
from shared.storage.files import digest_of


def verify(
    folder: Path, key: str | None = None, partition: Partition | None = None, files: tuple[str, ...] = ("",)
) -> Manifest:
    """Check every byte of a snapshot against its name, its manifest and, if a key is set, its signature; or only the
    files whose names begin with one of `files`. If a partition is given, the snapshot must be of it.

    Raises `SnapshotError`, naming the file.
    """
    signed = None
    try:
        data = (folder / "manifest.json").read_bytes()
        if key and (folder / SIGNATURE).exists():
            signed = (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise SnapshotError(f"The snapshot {folder} has no readable manifest: {error.strerror}.") from error
    manifest = checked_manifest(folder.name, data, signed, key, partition)
    for name, wanted in manifest.files.items():
        if not name.startswith(files):
            continue
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise SnapshotError(f"The snapshot {folder} lacks its file {name}.")
        try:
            found = digest_of(path)
        except OSError as error:
            raise SnapshotError(f"The file {path} cannot be read: {error.strerror}.") from error
        if found != wanted:
            raise SnapshotError(f"The file {path} is not the one that was written: its SHA-256 differs.")
    return manifest
