"""Pulling: a depot's current snapshot comes to this host, whole or not at all.

It is fetched into `.pulling/<id>` beside the snapshots, where an interrupted try goes on; every file is checked against
the manifest, and only then the folder is renamed and becomes current.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from shared.buckets import Advance, Bucket
from shared.depot import Meter, latest, object_key, signed_manifest, unmetered
from shared.errors import SnapshotError
from shared.files import FileMark, mark, replace_atomically, sync_folder
from shared.manifest import SIGNATURE, Manifest, checked_manifest
from shared.partition import Partition
from shared.snapshot import activate, current_id, exclusive, keep_newest, verify


def pull(
    data: Path, partition: Partition, bucket: Bucket, *, key: str | None = None, keep: int = 5, meter: Meter = unmetered
) -> str:
    """Make the depot's current snapshot this host's; return its id. Then remove all but the newest `keep` here.

    Raises `SnapshotError` where it is damaged or not signed as it should be, `DepotError` where the depot fails,
    `OSError` on a full disk. What serves has not changed then.
    """
    with exclusive(data, partition, "pulling"):
        now = latest(bucket, partition)
        if now is None:
            raise SnapshotError(f"The depot {bucket.uri} has no snapshot of {partition}. Publish one: make publish.")
        if not _is_here(data, partition, now.current, key):
            _fetch(data, partition, bucket, now.current, key, meter)
        if current_id(data, partition) != now.current:
            activate(data, partition, now.current)
        replace_atomically(_followed(data, partition), now.current.encode() + b"\n")
        keep_newest(data, partition, keep)
    return now.current


def followed_id(data: Path, partition: Partition) -> str | None:
    """The id that was pulled last. Where another one is current, somebody of this host chose it."""
    try:
        return _followed(data, partition).read_text("ascii").strip()
    except (OSError, UnicodeError):
        return None


def _followed(data: Path, partition: Partition) -> Path:
    return partition.folder(data) / ".pulled"


def _is_here(data: Path, partition: Partition, snapshot_id: str, key: str | None) -> bool:
    try:
        verify(partition.folder(data) / snapshot_id, key)
    except SnapshotError:
        return False
    return True


def _fetch(data: Path, partition: Partition, bucket: Bucket, snapshot_id: str, key: str | None, meter: Meter) -> None:
    content, signed = signed_manifest(bucket, partition, snapshot_id)
    manifest = checked_manifest(snapshot_id, content, signed, key)
    if any(Path(name).name != name or name in ("", "..", "manifest.json", SIGNATURE) for name in manifest.files):
        raise SnapshotError(f"The manifest of {snapshot_id} names files outside the snapshot.")
    place = partition.folder(data) / ".pulling"
    folder, final = place / snapshot_id, partition.folder(data) / snapshot_id
    try:
        if final.exists():  # but not as it should be: what is good of it is kept
            shutil.rmtree(folder, ignore_errors=True)
            place.mkdir(exist_ok=True)
            final.rename(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*place.iterdir(), *folder.iterdir()):
            if path != folder and path.name not in manifest.files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        near = _files_here(data, partition)
        with meter("fetching", sum(wanted.bytes for wanted in manifest.files.values())) as advance:
            for name, wanted in manifest.files.items():
                if wanted in near and not (folder / name).exists():
                    shutil.copyfile(near[wanted], folder / name)
                _fetch_file(bucket, folder / name, wanted, advance)
        (folder / "manifest.json").write_bytes(content)
        if signed:
            (folder / SIGNATURE).write_bytes(signed)
        for path in folder.iterdir():
            _sync(path)
        sync_folder(folder)
        verify(folder, key)
        folder.rename(final)
        sync_folder(final.parent)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)  # of a full disk nothing is kept
        raise


def _files_here(data: Path, partition: Partition) -> dict[FileMark, Path]:
    """The files of the snapshot that serves: weights seldom change, and need not be fetched again."""
    with suppress(SnapshotError, OSError):
        folder = partition.folder(data) / (current_id(data, partition) or "")
        manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
        return {wanted: folder / name for name, wanted in manifest.files.items() if (folder / name).is_file()}
    return {}


def _fetch_file(bucket: Bucket, path: Path, wanted: FileMark, advance: Advance) -> None:
    """Fetch what is not there yet. What an interrupted try left is used once; if it proves wrong, all is fetched."""
    there = path.stat().st_size if path.exists() else 0
    for start in (there, 0) if 0 < there <= wanted.bytes else (0,):
        if start == 0:
            path.unlink(missing_ok=True)  # not emptied: of a damaged snapshot, a server may still have it in memory
        advance(start)
        with path.open("ab") as file:
            for piece in bucket.stream(object_key(wanted), start) if start < wanted.bytes else ():
                file.write(piece)
                advance(len(piece))
        if mark(path) == wanted:
            return
        advance(-path.stat().st_size)
    path.unlink()
    raise SnapshotError(f"The depot {bucket.uri} holds {path.name} damaged: its SHA-256 is not {wanted.sha256[:16]}...")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
