"""A depot: where snapshots lie for every host to fetch. This is the order of steps that keeps it whole.

    <depot>/objects/371/0341/<sha256>               a file of one or more snapshots, named by its content
    <depot>/snapshots/371/0341/<id>/manifest.json   written when all its objects are there; manifest.sig beside it
    <depot>/snapshots/371/0341/<id>/withdrawn       where somebody went back from it
    <depot>/snapshots/371/0341/LATEST               the current id and the one before; moved last, by conditional put

Who dies on the way leaves objects that nobody names, never a LATEST that names what is not there. For pulling see
`pulling`.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.errors import ConfigError, DepotError, SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import current_id, is_id
from shared.snapshot.manifest import SIGNATURE, Manifest, checked_manifest, signature
from shared.snapshot.verify import verify
from shared.storage.buckets import Advance, Bucket, Entry, Held
from shared.storage.files import FileDigest

Meter = Callable[[str, int], AbstractContextManager[Advance]]
"""`with meter("sending", total_bytes) as advance: advance(bytes)`: shows how far a transfer is."""

# An object that no manifest names may belong to a publisher who is still at work.
GRACE = timedelta(hours=24)
_SHA256 = re.compile("[0-9a-f]{64}")
_MANIFEST, _WITHDRAWN = "manifest.json", "withdrawn"


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
            raise SnapshotError(f"The depot's LATEST does not name a snapshot: {data[:80]!r}. Publish again.")
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


def withdrawn(bucket: Bucket, partition: Partition) -> set[str]:
    """The snapshots that somebody went back from."""
    keys = (entry.key.split("/") for entry in bucket.entries(_key(partition, "")))
    return {parts[-2] for parts in keys if parts[-1] == _WITHDRAWN}


def manifest_of(bucket: Bucket, partition: Partition, snapshot_id: str, key: str | None = None) -> Manifest:
    """A snapshot's manifest. Raises `SnapshotError` where it is missing, damaged, foreign or not signed as it must."""
    return checked_manifest(snapshot_id, *signed_manifest(bucket, partition, snapshot_id), key, partition)


def signed_manifest(bucket: Bucket, partition: Partition, snapshot_id: str) -> tuple[bytes, bytes | None]:
    """The bytes of a manifest and of its signature, unchecked. Raises `SnapshotError` where there is no manifest."""
    held = bucket.read(_key(partition, snapshot_id, _MANIFEST))
    if held is None:
        raise SnapshotError(f"The depot {bucket.uri} has no snapshot {snapshot_id} of {partition}.")
    signed = bucket.read(_key(partition, snapshot_id, SIGNATURE))
    return held.data, signed.data if signed else None


def object_key(partition: Partition, wanted: FileDigest) -> str:
    """Where a file of that content lies. Raises `SnapshotError` where a manifest names no content."""
    if not _SHA256.fullmatch(wanted.sha256):
        raise SnapshotError(f"A manifest states a SHA-256 that is none: {wanted.sha256[:80]!r}.")
    return f"objects/{partition}/{wanted.sha256}"


def publish(
    data: Path, partition: Partition, bucket: Bucket, *, key: str | None = None, meter: Meter = unmetered
) -> str:
    """Make the host's current snapshot the depot's; return its id.

    Raises `SnapshotError` where the snapshot is damaged, `DepotError` where the depot fails, another publisher was
    faster, or somebody went back from this snapshot. The depot is as it was then, but for objects that the next try
    finds there.
    """
    snapshot_id = current_id(data, partition)
    if snapshot_id is None:
        raise SnapshotError(f"There is no snapshot of {partition} in {data} to publish. Make one: make index.")
    if not is_id(snapshot_id):
        raise SnapshotError(f"{partition.folder(data) / 'CURRENT'} does not name a snapshot.")
    folder = partition.folder(data) / snapshot_id
    signed = (folder / SIGNATURE).read_bytes() if (folder / SIGNATURE).exists() else None
    manifest = verify(folder, key if signed else None, partition)
    content = (folder / _MANIFEST).read_bytes()
    if key and signed is None:  # it is older than the key
        signed = signature(content, key)
    before = bucket.read(_key(partition, "LATEST"))
    now = _read_latest(before)
    if now and now.current != snapshot_id and bucket.read(_key(partition, snapshot_id, _WITHDRAWN)):
        raise DepotError(
            f"Somebody went back from {snapshot_id} in {bucket.uri}. Make another one: make index (FORCE=1 where "
            f"nothing changed). Or let it serve again: make rollback TO={snapshot_id}."
        )
    _send(folder, manifest.files, bucket, partition, meter, _lasting(bucket, partition, manifest, before))
    _write_manifest(bucket, partition, snapshot_id, content, signed)
    _move(bucket, partition, before, snapshot_id)
    # Now that it is current nothing of it is removed; but a cleaner may have looked before.
    _write_manifest(bucket, partition, snapshot_id, content, signed)
    lost = {name: mark for name, mark in manifest.files.items() if not _there(bucket, partition, mark)}
    _send(folder, lost, bucket, partition, unmetered)
    return snapshot_id


def go_back(bucket: Bucket, partition: Partition, to: str | None = None, key: str | None = None) -> str:
    """Make the snapshot `to` current in the depot, or the one that was before; return its id.

    The one that was current is withdrawn: it is not published again by a run that made nothing new. Raises
    `SnapshotError` where `to` is not there, `DepotError` where another one moved LATEST meanwhile.
    """
    before = bucket.read(_key(partition, "LATEST"))
    if before is None:
        raise SnapshotError(f"The depot {bucket.uri} has no snapshot of {partition}.")
    now = _read_latest(before)
    wanted = to or (now.previous if now else None)
    known = sorted(_ids(bucket, partition), reverse=True)
    if wanted not in known:
        which = f"The snapshot {to} is not" if to else "No earlier snapshot is"
        raise SnapshotError(f"{which} in {bucket.uri}. Give one of them: TO={' or '.join(known)}.")
    content, signed = signed_manifest(bucket, partition, wanted)
    for name, mark in checked_manifest(wanted, content, signed, key, partition).files.items():
        if not _there(bucket, partition, mark):
            raise SnapshotError(f"The depot {bucket.uri} lacks the file {name} of {wanted}. Publish it again.")
    if now and now.current != wanted:
        _settle(bucket, _key(partition, now.current, _WITHDRAWN), b"")
    bucket.delete(_key(partition, wanted, _WITHDRAWN))
    _move(bucket, partition, before, wanted)
    _write_manifest(bucket, partition, wanted, content, signed)  # a publisher may just have forgotten it
    return wanted


def keep_newest(bucket: Bucket, partition: Partition, keep: int, grace: timedelta = GRACE) -> list[str]:
    """Forget all but the newest `keep` snapshots, never the current or the previous one; return the forgotten ids.

    Then remove the objects that no snapshot named even before, unless they are younger than `grace`. So what is
    forgotten can come back until the next time.
    """
    spared = latest(bucket, partition)
    moved = [entry.modified for entry in bucket.entries(_key(partition, "LATEST"))]
    if not (spared and moved):
        return []
    (now,) = moved  # by the bucket's own clock, not this host's
    ids = sorted(_ids(bucket, partition), reverse=True)
    named = _named_objects(bucket, partition, ids)
    forgotten = [each for each in ids[keep:] if each not in (spared.current, spared.previous)]
    for snapshot_id in forgotten:
        bucket.delete(_key(partition, snapshot_id, _MANIFEST))  # without it a snapshot is not there
        for of_it in list(bucket.entries(_key(partition, snapshot_id, ""))):
            bucket.delete(of_it.key)
    for old in [each for each in bucket.entries(f"objects/{partition}/") if now - each.modified > grace]:
        # Looked at again: a publisher may have sent it anew.
        if old.key not in named and old in bucket.entries(old.key):
            bucket.delete(old.key)
    return forgotten


def _key(partition: Partition, *parts: str) -> str:
    return "/".join(("snapshots", partition.department, partition.domain, *parts))


def _ids(bucket: Bucket, partition: Partition) -> set[str]:
    """The snapshots that are there, those too whose publisher died before it wrote the manifest."""
    begin = _key(partition, "")
    return set(filter(is_id, (entry.key.removeprefix(begin).partition("/")[0] for entry in bucket.entries(begin))))


def _named_objects(bucket: Bucket, partition: Partition, ids: list[str]) -> set[str]:
    """Every object that a snapshot names. An unreadable manifest stops the cleaning: what it names is not known."""
    named: set[str] = set()
    for snapshot_id in ids:
        held = bucket.read(_key(partition, snapshot_id, _MANIFEST))
        marks = Manifest.from_json(held.data, snapshot_id).files.values() if held else ()
        named.update(object_key(partition, mark) for mark in marks)
    return named


def _there(bucket: Bucket, partition: Partition, mark: FileDigest) -> Entry | None:
    """The object of that content, where it is there and has the right size."""
    key = object_key(partition, mark)
    return next((each for each in bucket.entries(key) if (each.key, each.bytes) == (key, mark.bytes)), None)


def _lasting(bucket: Bucket, partition: Partition, manifest: Manifest, before: Held | None) -> set[FileDigest]:
    """The files that are there and stay while this publisher works, whoever cleans up meanwhile.

    Those are the current snapshot's (if another becomes current, this publisher loses anyway) and the young ones.
    """
    current: set[FileDigest] = set()
    if before:
        with suppress(SnapshotError):  # a damaged one is no help
            current.update(manifest_of(bucket, partition, Latest.from_bytes(before.data).current).files.values())
    young = datetime.now(UTC) - GRACE / 2
    found = {mark: _there(bucket, partition, mark) for mark in manifest.files.values()}
    return {mark for mark, entry in found.items() if entry and (mark in current or entry.modified > young)}


def _send(
    folder: Path,
    files: Mapping[str, FileDigest],
    bucket: Bucket,
    partition: Partition,
    meter: Meter,
    there: Collection[FileDigest] = (),
) -> None:
    """Send the files that are not there, then read all back; those that prove wrong are sent again."""
    total = sum(mark.bytes for mark in files.values())
    with meter("sending", total) as advance:
        for name, mark in files.items():
            if mark in there:
                advance(mark.bytes)
            else:
                bucket.upload(folder / name, object_key(partition, mark), advance)
    with meter("reading back", total) as advance:
        for name, mark in files.items():
            key = object_key(partition, mark)
            if _digest(bucket, key, advance) != mark.sha256:
                bucket.upload(folder / name, key, lambda _: None)
                if _digest(bucket, key, lambda _: None) != mark.sha256:
                    raise DepotError(f"{name} was sent to {bucket.uri} but does not read back as it should.")


def _digest(bucket: Bucket, key: str, advance: Advance) -> str:
    digest = hashlib.sha256()
    with suppress(KeyError):  # it is not there
        for piece in bucket.stream(key):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


def _write_manifest(
    bucket: Bucket, partition: Partition, snapshot_id: str, content: bytes, signed: bytes | None
) -> None:
    if signed:
        _settle(bucket, _key(partition, snapshot_id, SIGNATURE), signed)
    _settle(bucket, _key(partition, snapshot_id, _MANIFEST), content)


def _settle(bucket: Bucket, key: str, data: bytes) -> None:
    held = bucket.read(key)
    if (held is None or held.data != data) and not bucket.replace(key, data, held.tag if held else None):
        raise DepotError(f"Another publisher writes {bucket.uri}/{key} at this moment. Publish again.")


def _move(bucket: Bucket, partition: Partition, before: Held | None, snapshot_id: str) -> None:
    """Name it in LATEST where nobody moved that meanwhile; also where it is named there already."""
    was = _read_latest(before)
    moved = Latest(snapshot_id, was.current if was else None)
    if was and was.current == snapshot_id:
        moved = was
    if not bucket.replace(_key(partition, "LATEST"), moved.to_bytes(), before.tag if before else None):
        now = latest(bucket, partition)
        raise DepotError(
            f"Another publisher was faster: {now.current if now else 'nothing'} is current now for {partition} in "
            f"{bucket.uri}, and {snapshot_id} is not. To see both: make snapshots. To insist: make publish."
        )


def _read_latest(held: Held | None) -> Latest | None:
    """What it says, or None where it says nothing: then it is replaced."""
    with suppress(SnapshotError):
        return Latest.from_bytes(held.data) if held else None
    return None
