"""Publish: make this host's current snapshot the depot's. Objects first, then the manifest, LATEST last."""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from shared.depot.depot import GRACE, DepotPartition
from shared.depot.meter import Meter, unmetered
from shared.errors import DepotError, SnapshotError
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import SIGNATURE, Manifest, signature
from shared.snapshot.verify import verify
from shared.storage.bucket import Advance, Bucket, Held
from shared.storage.files import FileDigest


def publish(here: PartitionFolder, bucket: Bucket, *, key: str | None = None, meter: Meter = unmetered) -> str:
    """Make the host's current snapshot the depot's; return its id.

    Raises `SnapshotError` where the snapshot is damaged, `DepotError` where the depot fails, another publisher was
    faster, or somebody went back from this snapshot. The depot is as it was then, but for objects that the next try
    finds there.
    """
    depot, folder = DepotPartition(bucket, here.partition, key, here), here.snapshot()
    snapshot_id = folder.name
    signed = (folder / SIGNATURE).read_bytes() if (folder / SIGNATURE).exists() else None
    manifest = verify(folder, key if signed else None, here.partition)
    content = (folder / "manifest.json").read_bytes()
    if key and signed is None:  # it is older than the key
        signed = signature(content, key)
    before = depot.held_latest()
    now = depot.newest(before)
    if snapshot_id in depot.withdrawn(before) and not (now and now.current == snapshot_id):
        raise DepotError(
            f"Somebody went back from {snapshot_id} in {bucket.uri}. Make another one: make index (FORCE=1 where "
            f"nothing changed). Or let it serve again: make rollback TO={snapshot_id}."
        )
    _send(folder, manifest.files, depot, meter, _lasting(depot, manifest, before))
    depot.write_manifest(snapshot_id, content, signed)
    depot.move(before, snapshot_id)
    # Now that it is current nothing of it is removed; but a cleaner may have looked before.
    depot.write_manifest(snapshot_id, content, signed)
    lost = {name: digest for name, digest in manifest.files.items() if not depot.object(digest)}
    _send(folder, lost, depot, unmetered)
    return snapshot_id


def _lasting(depot: DepotPartition, manifest: Manifest, before: Held | None) -> set[FileDigest]:
    """The files that are there and stay while this publisher works, though others may clean up meanwhile.

    Those are the current snapshot's (if another becomes current, this publisher loses anyway) and the young ones.
    """
    current: set[FileDigest] = set()
    if now := depot.newest(before):
        with suppress(SnapshotError):  # a damaged one is no help
            current.update(depot.manifest_of(now.current).files.values())
    young = datetime.now(UTC) - GRACE / 2
    found = {digest: depot.object(digest) for digest in manifest.files.values()}
    return {digest for digest, entry in found.items() if entry and (digest in current or entry.modified > young)}


def _send(
    folder: Path,
    files: Mapping[str, FileDigest],
    depot: DepotPartition,
    meter: Meter,
    there: Collection[FileDigest] = (),
) -> None:
    """Send the files that are not there, then read all back; those that prove wrong are sent again."""
    bucket, total = depot.bucket, sum(digest.bytes for digest in files.values())
    with meter("sending", total) as advance:
        for name, digest in files.items():
            if digest in there:
                advance(digest.bytes)
            else:
                bucket.upload(folder / name, depot.object_key(digest), advance)
    with meter("reading back", total) as advance:
        for name, digest in files.items():
            key = depot.object_key(digest)
            if _sha256(bucket, key, advance) != digest.sha256:
                bucket.upload(folder / name, key, lambda _: None)
                if _sha256(bucket, key, lambda _: None) != digest.sha256:
                    raise DepotError(f"{name} was sent to {bucket.uri} but does not read back as it should.")


def _sha256(bucket: Bucket, key: str, advance: Advance) -> str:
    hashed = hashlib.sha256()
    with suppress(KeyError):  # it is not there
        for piece in bucket.stream(key):
            hashed.update(piece)
            advance(len(piece))
    return hashed.hexdigest()
