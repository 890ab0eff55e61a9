"""Pulling: a depot's current snapshot comes to this host, whole or not at all.

It is fetched into `.pulling/<id>` beside the snapshots, where an interrupted try goes on; every file is checked against
the manifest, the snapshot is opened, and only then it takes its place and becomes current.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from shared.depot.depot import Meter, latest, object_key, signed_manifest, unmetered
from shared.errors import SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import activate, current_id, exclusive
from shared.snapshot.manifest import SIGNATURE, Manifest, checked_manifest
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage.buckets import Advance, Bucket
from shared.storage.files import FileDigest, mark, replace_atomically, sync_folder


def pull(data: Path, partition: Partition, bucket: Bucket, *, key: str | None = None, meter: Meter = unmetered) -> str:
    """Make the depot's current snapshot this host's; return its id.

    Raises `SnapshotError` where it is damaged or not signed as it should be, `DepotError` where the depot fails,
    `OSError` on a full disk. What serves has not changed then.
    """
    with exclusive(data, partition, "pulling"):
        now = latest(bucket, partition)
        if now is None:
            raise SnapshotError(f"The depot {bucket.uri} has no snapshot of {partition}. Publish one: make publish.")
        try:
            verify(partition.folder(data) / now.current, key, partition)
        except SnapshotError:  # it is not here, or not as it should be
            _fetch(data, partition, bucket, now.current, key, meter)
        shutil.rmtree(partition.folder(data) / ".pulling", ignore_errors=True)
        if chosen_id(data, partition) != now.current:
            activate(data, partition, now.current)
        replace_atomically(_followed(data, partition), now.current.encode() + b"\n")
    return now.current


def chosen_id(data: Path, partition: Partition) -> str | None:
    """The id of this host's current snapshot, if it is there; None where it is not, or CURRENT is damaged."""
    with suppress(SnapshotError):
        chosen = current_id(data, partition)
        if chosen and (partition.folder(data) / chosen).is_dir():
            return chosen
    return None


def followed_id(data: Path, partition: Partition) -> str | None:
    """The id that was pulled last. Where another one is current, somebody of this host chose it."""
    try:
        return _followed(data, partition).read_text("ascii").strip()
    except (OSError, UnicodeError):
        return None


def _followed(data: Path, partition: Partition) -> Path:
    return partition.folder(data) / ".pulled"


def _fetch(data: Path, partition: Partition, bucket: Bucket, snapshot_id: str, key: str | None, meter: Meter) -> None:
    content, signed = signed_manifest(bucket, partition, snapshot_id)
    manifest = checked_manifest(snapshot_id, content, signed, key, partition)
    if any(Path(name).name != name or name in ("", "..", "manifest.json", SIGNATURE) for name in manifest.files):
        raise SnapshotError(f"The manifest of {snapshot_id} names files outside the snapshot.")
    place = partition.folder(data) / ".pulling"
    folder, final = place / snapshot_id, partition.folder(data) / snapshot_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*place.iterdir(), *folder.iterdir()):
            if path != folder and path.name not in manifest.files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        near = _files_of(final) | _files_of(partition.folder(data) / (chosen_id(data, partition) or snapshot_id))
        with meter("fetching", sum(wanted.bytes for wanted in manifest.files.values())) as advance:
            for name, wanted in manifest.files.items():
                if wanted in near and not (folder / name).exists():
                    shutil.copyfile(near[wanted], folder / name)
                _fetch_file(bucket, partition, folder / name, wanted, advance)
        (folder / "manifest.json").write_bytes(content)
        if signed:
            (folder / SIGNATURE).write_bytes(signed)
        for path in folder.iterdir():
            _sync(path)
        sync_folder(folder)
        Snapshot(folder, key, partition)  # whose parts fit together, too
        if final.is_dir():  # one that may serve: it is mended file by file, and never gone
            for path in folder.iterdir():
                path.replace(final / path.name)
            sync_folder(final)
        else:
            folder.rename(final)
        sync_folder(final.parent)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)  # of a full disk nothing is kept
        raise


def _files_of(folder: Path) -> dict[FileDigest, Path]:
    """The files of a snapshot on this host: weights seldom change, and need not be fetched again."""
    with suppress(SnapshotError, OSError):
        files = Manifest.from_json((folder / "manifest.json").read_bytes(), folder.name).files
        return {wanted: folder / name for name, wanted in files.items() if (folder / name).is_file()}
    return {}


def _fetch_file(bucket: Bucket, partition: Partition, path: Path, wanted: FileDigest, advance: Advance) -> None:
    """Fetch what is not there yet. What an interrupted try left is used once; if it proves wrong, all is fetched."""
    there = path.stat().st_size if path.exists() else 0
    for start in (there, 0) if 0 < there <= wanted.bytes else (0,):
        if start == 0:
            path.unlink(missing_ok=True)
        advance(start)
        try:
            with path.open("ab") as file:
                for piece in bucket.stream(object_key(partition, wanted), start) if start < wanted.bytes else ():
                    file.write(piece)
                    advance(len(piece))
        except KeyError as error:
            raise SnapshotError(
                f"The depot {bucket.uri} lacks {path.name} of {path.parent.name}. Publish it again."
            ) from error
        if mark(path) == wanted:
            return
        advance(-path.stat().st_size)
    path.unlink()
    raise SnapshotError(
        f"The depot {bucket.uri} holds {path.name} of {path.parent.name} damaged: its SHA-256 is not "
        f"{wanted.sha256[:16]}... Publish it again."
    )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
