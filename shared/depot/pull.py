"""Pull: bring a depot's current snapshot to this host, whole or not at all.

It is fetched into `.pulling/<id>` beside the snapshots, where an interrupted try goes on; every file is checked against
the manifest, the snapshot is opened, and only then it takes its place and becomes current.
"""

import os
import shutil
from contextlib import closing, suppress
from pathlib import Path

from shared.depot.depot import DepotPartition
from shared.depot.meter import Meter, unmetered
from shared.errors import SnapshotError
from shared.snapshot.directory import PartitionFolder, Task
from shared.snapshot.lease import Lease
from shared.snapshot.manifest import SIGNATURE, Manifest, checked_manifest
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage.bucket import Advance, Bucket
from shared.storage.files import FileDigest, digest_of, sync_folder


def pull(here: PartitionFolder, bucket: Bucket, *, key: str | None = None, meter: Meter = unmetered) -> str:
    """Make the depot's current snapshot this host's; return its id.

    Raises `SnapshotError` where it is damaged, older or not signed as it should be, `DepotError` where the depot fails,
    `OSError` on a full disk. What serves has not changed then.
    """
    depot = DepotPartition(bucket, here.partition, key, here)
    with here.exclusive(Task.PULLING):
        now = depot.accepted()
        if now is None:
            raise SnapshotError(
                f"The depot {bucket.uri} has no snapshot of {here.partition}. Publish one: make publish."
            )
        try:
            lease = Lease(here.snapshot(now.current))
            verify(here.snapshot(now.current), key, here.partition)
        except SnapshotError:  # it is not here, or not as it should be
            lease = _fetch(here, depot, now.current, key, meter)
        with closing(lease):  # nobody removes it before it is current
            shutil.rmtree(here.pulling, ignore_errors=True)
            here.activate(now.current)
        here.note_pulled(now.current)
    return now.current


def _fetch(here: PartitionFolder, depot: DepotPartition, snapshot_id: str, key: str | None, meter: Meter) -> Lease:
    content, signed = depot.signed_manifest(snapshot_id)
    manifest = checked_manifest(snapshot_id, content, signed, key, here.partition)
    folder = here.pulling / snapshot_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*here.pulling.iterdir(), *folder.iterdir()):
            if path != folder and path.name not in manifest.files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        near = _files_of(here.snapshot(snapshot_id)) | _files_of(here.snapshot(here.current_if_there() or snapshot_id))
        with meter("fetching", sum(digest.bytes for digest in manifest.files.values())) as advance:
            for name, digest in manifest.files.items():
                if digest in near and not (folder / name).exists():
                    shutil.copyfile(near[digest], folder / name)
                _fetch_file(depot, folder / name, digest, advance)
        (folder / "manifest.json").write_bytes(content)
        if signed:
            (folder / SIGNATURE).write_bytes(signed)
        for path in folder.iterdir():
            _sync(path)
        sync_folder(folder)
        Snapshot(folder, key, here.partition)  # whose parts fit together, too
        return here.add(folder, snapshot_id)
    except OSError:
        shutil.rmtree(here.pulling, ignore_errors=True)  # of a full disk nothing is kept
        raise


def _files_of(folder: Path) -> dict[FileDigest, Path]:
    """The files of a snapshot on this host: weights seldom change, and need not be fetched again."""
    with suppress(SnapshotError, OSError):
        files = Manifest.from_json((folder / "manifest.json").read_bytes(), folder.name).files
        return {digest: folder / name for name, digest in files.items() if (folder / name).is_file()}
    return {}


def _fetch_file(depot: DepotPartition, path: Path, wanted: FileDigest, advance: Advance) -> None:
    """Fetch the missing part of a file. The part that an interrupted try left is used once; if the whole proves wrong,
    all is fetched."""
    bucket, there = depot.bucket, path.stat().st_size if path.exists() else 0
    for start in (there, 0) if 0 < there <= wanted.bytes else (0,):
        if start == 0:
            path.unlink(missing_ok=True)
        advance(start)
        try:
            with path.open("ab") as file:
                for piece in bucket.stream(depot.object_key(wanted), start) if start < wanted.bytes else ():
                    if file.tell() + len(piece) > wanted.bytes:
                        path.unlink()
                        raise SnapshotError(
                            f"The depot {bucket.uri} holds {path.name} of {path.parent.name} larger than the "
                            f"{wanted.bytes:,} bytes that its manifest states. Publish it again."
                        )
                    file.write(piece)
                    advance(len(piece))
        except KeyError as error:
            raise SnapshotError(
                f"The depot {bucket.uri} lacks {path.name} of {path.parent.name}. Publish it again."
            ) from error
        if digest_of(path) == wanted:
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
