"""A depot: where snapshots lie for every host to fetch. This is the order of steps that keeps it whole.

    <depot>/objects/ab/<sha256>                        a file of one or more snapshots, named by its content
    <depot>/snapshots/371/0341/<id>/manifest.json      written when all its objects are there; manifest.sig beside it
    <depot>/snapshots/371/0341/LATEST                  the current id and the one before; moved last, by conditional put

Who dies on the way leaves objects that nobody names, never a LATEST that names what is not there. For pulling see
`pulling`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.buckets import Advance, Bucket, Entry, Held
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.files import FileMark
from shared.manifest import SIGNATURE, Manifest, checked_manifest, signature
from shared.partition import Partition
from shared.snapshot import current_id, is_id, verify

Meter = Callable[[str, int], AbstractContextManager[Advance]]
"""`with meter("sending", total_bytes) as advance: advance(bytes)`: shows how far a transfer is."""

# An object that no manifest names may belong to a publisher who is still at work.
GRACE = timedelta(hours=24)
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Latest:
    """What a depot's LATEST says: the current snapshot and the one that was current before."""

    current: str
    previous: str | None = None

    def to_bytes(self) -> bytes:
        return "".join(f"{snapshot_id}\n" for snapshot_id in (self.current, self.previous) if snapshot_id).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Latest":
        """Raises `SnapshotError` where it names no snapshot."""
        ids = data.decode("ascii", "replace").split()
        if not 1 <= len(ids) <= 2 or not all(map(is_id, ids)):
            raise SnapshotError(f"LATEST does not name a snapshot: {data[:80]!r}.")
        return cls(*ids)


def unmetered(_what: str, _total: int) -> AbstractContextManager[Advance]:
    """A `Meter` that shows nothing."""
    return nullcontext(lambda _moved: None)


def latest(bucket: Bucket, partition: Partition) -> Latest | None:
    """What is current in the depot, or None where nothing was published."""
    held = bucket.read(_key(partition, "LATEST"))
    return Latest.from_bytes(held.data) if held else None


def latest_entries(bucket: Bucket) -> dict[Partition, Entry]:
    """The LATEST of every partition in the depot, in one listing: what has changed since?"""
    found = {}
    for entry in bucket.entries("snapshots/"):
        _, department, domain, *rest = f"{entry.key}///".split("/")
        if rest[0] == "LATEST":
            with suppress(ConfigError):  # somebody else's object
                found[Partition(department, domain)] = entry
    return found


def manifests(bucket: Bucket, partition: Partition) -> dict[str, Manifest | None]:
    """Every snapshot of a partition in the depot, newest first; None where its manifest cannot be read."""
    found: dict[str, Manifest | None] = {}
    for snapshot_id in sorted(_ids(bucket, partition), reverse=True):
        try:
            found[snapshot_id] = manifest_of(bucket, partition, snapshot_id)
        except SnapshotError:
            found[snapshot_id] = None
    return found


def manifest_of(bucket: Bucket, partition: Partition, snapshot_id: str, key: str | None = None) -> Manifest:
    """A snapshot's manifest. Raises `SnapshotError` where it is missing, damaged or not signed as it should be."""
    data, signed = signed_manifest(bucket, partition, snapshot_id)
    return checked_manifest(snapshot_id, data, signed, key)


def signed_manifest(bucket: Bucket, partition: Partition, snapshot_id: str) -> tuple[bytes, bytes | None]:
    """The bytes of a manifest and of its signature, unchecked. Raises `SnapshotError` where there is no manifest."""
    held = bucket.read(_key(partition, snapshot_id, "manifest.json"))
    if held is None:
        raise SnapshotError(f"The depot {bucket.uri} has no snapshot {snapshot_id} of {partition}.")
    signed = bucket.read(_key(partition, snapshot_id, SIGNATURE))
    return held.data, signed.data if signed else None


def object_key(wanted: FileMark) -> str:
    """Where a file of that content lies. Raises `SnapshotError` where a manifest names no content."""
    if not _SHA256.fullmatch(wanted.sha256):
        raise SnapshotError(f"A manifest states a SHA-256 that is none: {wanted.sha256[:80]!r}.")
    return f"objects/{wanted.sha256[:2]}/{wanted.sha256}"


def publish(
    data: Path, partition: Partition, bucket: Bucket, *, key: str | None = None, meter: Meter = unmetered
) -> str:
    """Make the host's current snapshot the depot's; return its id.

    Raises `SnapshotError` where the snapshot is damaged, `DepotError` where the depot fails or another publisher was
    faster. The depot is as it was then, but for objects that the next try finds there already.
    """
    snapshot_id = current_id(data, partition)
    if snapshot_id is None:
        raise SnapshotError(f"There is no snapshot of {partition} in {data} to publish. Make one: make index.")
    if not is_id(snapshot_id):
        raise SnapshotError(f"{partition.folder(data) / 'CURRENT'} does not name a snapshot.")
    folder = partition.folder(data) / snapshot_id
    signed = (folder / SIGNATURE).read_bytes() if (folder / SIGNATURE).exists() else None
    manifest = verify(folder, key if signed else None)
    content = (folder / "manifest.json").read_bytes()
    if key and signed is None:  # it is older than the key
        signed = signature(content, key)
    before = bucket.read(_key(partition, "LATEST"))
    _send_objects(folder, manifest, bucket, _safe_objects(bucket, partition, before), meter)
    if signed:
        _settle(bucket, _key(partition, snapshot_id, SIGNATURE), signed)
    _settle(bucket, _key(partition, snapshot_id, "manifest.json"), content)
    _move(bucket, partition, before, snapshot_id)
    return snapshot_id


def go_back(bucket: Bucket, partition: Partition, to: str | None = None, key: str | None = None) -> str:
    """Make the snapshot `to` current in the depot, or the one that was before; return its id.

    Raises `SnapshotError` where it is not there, `DepotError` where another one moved LATEST meanwhile.
    """
    before = bucket.read(_key(partition, "LATEST"))
    if before is None:
        raise SnapshotError(f"The depot {bucket.uri} has no snapshot of {partition}.")
    wanted = to or Latest.from_bytes(before.data).previous
    known = sorted(_ids(bucket, partition), reverse=True)
    if wanted not in known:
        which = f"The snapshot {to} is not" if to else "No earlier snapshot is"
        raise SnapshotError(f"{which} in {bucket.uri}. Give one of them: TO={' or '.join(known)}.")
    there = {entry.key: entry.bytes for entry in bucket.entries("objects/")}
    for name, mark in manifest_of(bucket, partition, wanted, key).files.items():
        if there.get(object_key(mark)) != mark.bytes:
            raise SnapshotError(f"The depot {bucket.uri} lacks the file {name} of {wanted}. Publish it again.")
    _move(bucket, partition, before, wanted)
    return wanted


def keep_newest(bucket: Bucket, partition: Partition, keep: int, grace: timedelta = GRACE) -> list[str]:
    """Forget all but the newest `keep` snapshots, never the current or the previous one; return the forgotten ids.

    Then remove the objects that no snapshot of any partition names, unless they are younger than `grace`.
    """
    entries = latest_entries(bucket)
    if partition not in entries:
        return []
    now = entries[partition].modified  # the bucket's own clock, not this host's
    spared = latest(bucket, partition) or Latest("")
    forgotten = [
        snapshot_id
        for snapshot_id in sorted(_ids(bucket, partition), reverse=True)[keep:]
        if snapshot_id not in (spared.current, spared.previous)
    ]
    for snapshot_id in forgotten:
        for name in ("manifest.json", SIGNATURE):  # without its manifest a snapshot is not there
            bucket.delete(_key(partition, snapshot_id, name))
    old = {entry for entry in bucket.entries("objects/") if now - entry.modified > grace}
    if old:
        named = _named_objects(bucket)
        for entry in old.intersection(bucket.entries("objects/")):  # not sent again by a publisher meanwhile
            if entry.key not in named:
                bucket.delete(entry.key)
    return forgotten


def _key(partition: Partition, *parts: str) -> str:
    return "/".join(("snapshots", partition.department, partition.domain, *parts))


def _ids(bucket: Bucket, partition: Partition) -> Iterator[str]:
    for entry in bucket.entries(_key(partition, "")):
        snapshot_id, _, name = entry.key.removeprefix(_key(partition, "")).partition("/")
        if name == "manifest.json" and is_id(snapshot_id):
            yield snapshot_id


def _named_objects(bucket: Bucket) -> set[str]:
    """Every object that any snapshot names. An unreadable manifest stops the cleaning: what it names is not known."""
    named: set[str] = set()
    for entry in bucket.entries("snapshots/"):
        if entry.key.endswith("/manifest.json"):
            held = bucket.read(entry.key)
            named.update(map(object_key, Manifest.from_json(held.data).files.values()) if held else ())
    return named


def _safe_objects(bucket: Bucket, partition: Partition, before: Held | None) -> dict[str, int]:
    """Objects with their sizes that are there and stay while this publisher works, whoever cleans up meanwhile.

    Those are the current snapshot's (if another becomes current, this publisher loses anyway) and the young ones.
    """
    current: set[str] = set()
    if before:
        with suppress(SnapshotError):  # a damaged one is no help
            manifest = manifest_of(bucket, partition, Latest.from_bytes(before.data).current)
            current.update(map(object_key, manifest.files.values()))
    young = datetime.now(UTC) - GRACE / 2
    return {e.key: e.bytes for e in bucket.entries("objects/") if e.key in current or e.modified > young}


def _send_objects(folder: Path, manifest: Manifest, bucket: Bucket, safe: dict[str, int], meter: Meter) -> None:
    total = sum(mark.bytes for mark in manifest.files.values())
    with meter("sending", total) as advance:
        for name, mark in manifest.files.items():
            if safe.get(object_key(mark)) == mark.bytes:
                advance(mark.bytes)
            else:
                bucket.upload(folder / name, object_key(mark), advance)
    with meter("reading back", total) as advance:
        for name, mark in manifest.files.items():
            if _digest(bucket, object_key(mark), advance) != mark.sha256:
                bucket.upload(folder / name, object_key(mark), lambda _: None)
                if _digest(bucket, object_key(mark), lambda _: None) != mark.sha256:
                    raise DepotError(f"{name} was sent to {bucket.uri} but does not read back as it should.")


def _digest(bucket: Bucket, key: str, advance: Advance) -> str:
    digest = hashlib.sha256()
    for piece in bucket.stream(key):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


def _settle(bucket: Bucket, key: str, data: bytes) -> None:
    held = bucket.read(key)
    if (held is None or held.data != data) and not bucket.replace(key, data, held.tag if held else None):
        raise DepotError(f"Another publisher writes {bucket.uri}/{key} at this moment. Publish again.")


def _move(bucket: Bucket, partition: Partition, before: Held | None, snapshot_id: str) -> None:
    was = None
    if before:
        with suppress(SnapshotError):  # an unreadable LATEST is replaced
            was = Latest.from_bytes(before.data)
    if was and was.current == snapshot_id:
        return
    moved = Latest(snapshot_id, was.current if was else None)
    if not bucket.replace(_key(partition, "LATEST"), moved.to_bytes(), before.tag if before else None):
        now = latest(bucket, partition)
        raise DepotError(
            f"Another publisher was faster: {now.current if now else 'nothing'} is current now for {partition} in "
            f"{bucket.uri}, and {snapshot_id} is not. To see both: make snapshots. To insist: make publish."
        )
