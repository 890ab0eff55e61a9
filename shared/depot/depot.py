"""A depot: snapshots in a bucket, for every host to fetch.

    <depot>/objects/371/0341/<sha256>               a file of one or more snapshots, named by its content
    <depot>/snapshots/371/0341/<id>/manifest.json   written when all its objects are there; manifest.sig beside it
    <depot>/snapshots/371/0341/LATEST               which one is current; moved last, by conditional put

Who dies on the way leaves objects that nobody names, never a LATEST that names what is not there.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from shared.depot.latest import Latest
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder, is_id
from shared.snapshot.manifest import SIGNATURE, Manifest, checked_manifest
from shared.storage.bucket import Bucket, Entry, Held, listed
from shared.storage.files import FileDigest

# An object that no manifest names may belong to a publisher who is still at work.
GRACE = timedelta(hours=24)
_SHA256 = re.compile("[0-9a-f]{64}")
_LATEST, _MANIFEST, _WITHDRAWN = "LATEST", "manifest.json", "withdrawn"


def latest_entries(bucket: Bucket) -> dict[Partition, Entry]:
    """The LATEST of every partition in a depot, in one listing. An entry's `change` tells whether it was moved."""
    found = {}
    for entry in listed(bucket, "snapshots/"):
        _, department, domain, *rest = f"{entry.key}///".split("/")
        if rest[0] == _LATEST:
            with suppress(ConfigError):  # somebody else's object
                found[Partition(department, domain)] = entry
    return found


@dataclass(frozen=True, slots=True)
class DepotPartition:
    """The snapshots of one partition in a depot.

    `key` signs LATEST, and is asked for where it is read. `here` remembers the newest LATEST that this host has seen.
    """

    bucket: Bucket
    partition: Partition
    key: str | None = field(default=None, repr=False)
    here: PartitionFolder | None = None

    def latest(self) -> Latest | None:
        """The current snapshot, or None if nothing was published. Raises `SnapshotError` if LATEST is damaged, or not
        signed as it should be."""
        held = self.held_latest()
        return Latest.from_bytes(held.data, self.partition, self.key) if held else None

    def accepted(self) -> Latest | None:
        """The current snapshot as this host may follow it, which is remembered. Raises `SnapshotError` as `latest`
        does, and where this host has seen a newer version, or another content of the same one."""
        held, known = self.held_latest(), self._remembered()
        if held is None:
            return None
        now = Latest.from_bytes(held.data, self.partition, self.key)
        if known and known.version and known != now and known.version >= now.version:
            raise SnapshotError(
                f"LATEST of {self.partition} in {self.bucket.uri} has version {now.version}, and this host has seen "
                f"{f'version {known.version}' if known.version > now.version else 'another content of that version'}: "
                "somebody put back an old one, or restored a backup. "
                f"To let it serve: make rollback TO={now.current} DEPOT={self.bucket.uri}, or make publish."
            )
        if self.here and known != now:
            self.here.note_latest(self.bucket.uri, held.data)
        return now

    def held_latest(self) -> Held | None:
        """LATEST as it is now, to show to `move`."""
        return self.bucket.read(self._key(_LATEST))

    def newest(self, held: Held | None) -> Latest | None:
        """The LATEST that a new version follows: the one there, or the newer one that this host has seen. None if none
        is to be believed."""
        there = Latest.readable(held.data if held else None, self.partition, self.key)
        return max(filter(None, (there, self._remembered())), key=lambda each: each.version, default=None)

    def withdrawn(self, held: Held | None) -> list[str]:
        """The snapshots that somebody went back from, by all that says so. Nothing serves for it, so it need not be
        signed."""
        there, newest = Latest.readable(held.data if held else None, self.partition), self.newest(held)
        found = [*(there.withdrawn if there else ()), *(newest.withdrawn if newest else ())]
        if not there or not there.version:  # a depot of before has objects that say so
            keys = (entry.key.split("/") for entry in listed(self.bucket, self._key("")))
            found += [parts[-2] for parts in keys if parts[-1] == _WITHDRAWN and is_id(parts[-2])]
        return list(dict.fromkeys(found))

    def _remembered(self) -> Latest | None:
        seen = self.here.latest_seen(self.bucket.uri) if self.here else None
        return Latest.readable(seen, self.partition, self.key)

    def ids(self) -> list[str]:
        """The ids of all snapshots, newest first, with those whose publisher died before it wrote the manifest."""
        begin = self._key("")
        names = {entry.key.removeprefix(begin).partition("/")[0] for entry in listed(self.bucket, begin)}
        return sorted(filter(is_id, names), reverse=True)

    def manifests(self) -> dict[str, Manifest | None]:
        """The manifests of all snapshots, newest first; None for one that cannot be read."""
        found: dict[str, Manifest | None] = {}
        for snapshot_id in self.ids():
            try:
                found[snapshot_id] = self.manifest_of(snapshot_id)
            except SnapshotError:
                found[snapshot_id] = None
        return found

    def manifest_of(self, snapshot_id: str) -> Manifest:
        """A snapshot's manifest, whoever signed it. Raises `SnapshotError` if it is missing, damaged or foreign."""
        return checked_manifest(snapshot_id, *self.signed_manifest(snapshot_id), None, self.partition)

    def signed_manifest(self, snapshot_id: str) -> tuple[bytes, bytes | None]:
        """The bytes of a manifest and of its signature, unchecked. Raises `SnapshotError` if there is no manifest."""
        held = self.bucket.read(self._key(snapshot_id, _MANIFEST))
        if held is None:
            raise SnapshotError(f"The depot {self.bucket.uri} has no snapshot {snapshot_id} of {self.partition}.")
        signed = self.bucket.read(self._key(snapshot_id, SIGNATURE))
        return held.data, signed.data if signed else None

    def object_key(self, digest: FileDigest) -> str:
        """The key of a file of that content. Raises `SnapshotError` if a manifest names no content."""
        if not _SHA256.fullmatch(digest.sha256):
            raise SnapshotError(f"A manifest states a SHA-256 that is none: {digest.sha256[:80]!r}.")
        return f"objects/{self.partition}/{digest.sha256}"

    def object(self, digest: FileDigest) -> Entry | None:
        """The object of that content, if it is there and has the right size."""
        key = self.object_key(digest)
        return next((each for each in listed(self.bucket, key) if (each.key, each.bytes) == (key, digest.bytes)), None)

    def write_manifest(self, snapshot_id: str, content: bytes, signed: bytes | None) -> None:
        """Write a manifest and its signature if they are not there yet. All its objects must be.

        Raises `DepotError` where another publisher writes them, too.
        """
        if signed:
            self._settle(self._key(snapshot_id, SIGNATURE), signed)
        self._settle(self._key(snapshot_id, _MANIFEST), content)

    def move(self, before: Held | None, snapshot_id: str, *, withdraw: bool = False) -> None:
        """Name the snapshot in a new version of LATEST; `withdraw` the one that is current, if that is another.

        Raises `DepotError` if LATEST is no longer as it was `before`.
        """
        newest, withdrawn = self.newest(before), self.withdrawn(before)
        if newest and withdraw:
            withdrawn.append(newest.current)
        moved = Latest.after(newest, self.partition, snapshot_id, withdrawn).to_bytes(self.key)
        if not self.bucket.replace(self._key(_LATEST), moved, before.tag if before else None):
            held = self.held_latest()
            now = Latest.readable(held.data if held else None, self.partition, self.key)
            raise DepotError(
                f"Another publisher was faster: {now.current if now else 'nothing'} is current now for "
                f"{self.partition} in {self.bucket.uri}, and {snapshot_id} is not. To see both: make snapshots. "
                "To insist: make publish."
            )
        if self.here:
            self.here.note_latest(self.bucket.uri, moved)

    def go_back(self, to: str | None = None) -> str:
        """Make the snapshot `to` current, or the one that was before; return its id.

        The one that was current is withdrawn: it is not published again by a run that made nothing new. Raises
        `SnapshotError` where `to` is not there, `DepotError` where another one moved LATEST meanwhile.
        """
        before = self.held_latest()
        now = self.newest(before)
        if not (before or now):
            raise SnapshotError(f"The depot {self.bucket.uri} has no snapshot of {self.partition}.")
        wanted = to or (now.previous if now else None)
        known = self.ids()
        if wanted not in known:
            which = f"The snapshot {to} is not" if to else "No earlier snapshot is"
            raise SnapshotError(f"{which} in {self.bucket.uri}. Give one of them: TO={' or '.join(known)}.")
        content, signed = self.signed_manifest(wanted)
        for name, digest in checked_manifest(wanted, content, signed, self.key, self.partition).files.items():
            if not self.object(digest):
                raise SnapshotError(f"The depot {self.bucket.uri} lacks the file {name} of {wanted}. Publish it again.")
        self.move(before, wanted, withdraw=True)
        self.write_manifest(wanted, content, signed)  # a publisher may just have forgotten it
        return wanted

    def keep_newest(self, keep: int, grace: timedelta = GRACE) -> list[str]:
        """Forget all but the newest `keep` snapshots, never the current or the previous one; return the forgotten ids.

        Then remove the objects that no snapshot named even before, unless they are younger than `grace`. So what is
        forgotten can come back until the next time.
        """
        spared = self.latest()
        moved = [entry.modified for entry in listed(self.bucket, self._key(_LATEST))]
        if not (spared and moved):
            return []
        (now,) = moved  # by the bucket's own clock, not this host's
        ids = self.ids()
        named = self._named_objects(ids)
        forgotten = [each for each in ids[keep:] if each not in (spared.current, spared.previous)]
        for snapshot_id in forgotten:
            self.bucket.delete(self._key(snapshot_id, _MANIFEST))  # without it a snapshot is not there
            for of_it in list(listed(self.bucket, self._key(snapshot_id, ""))):
                self.bucket.delete(of_it.key)
        objects = listed(self.bucket, f"objects/{self.partition}/")
        for old in [each for each in objects if now - each.modified > grace]:
            # Looked at again: a publisher may have sent it anew.
            if old.key not in named and old in listed(self.bucket, old.key):
                self.bucket.delete(old.key)
        return forgotten

    def _named_objects(self, ids: list[str]) -> set[str]:
        """Every object that a snapshot names. An unreadable manifest stops the cleaning, because its objects are not
        known."""
        named: set[str] = set()
        for snapshot_id in ids:
            if held := self.bucket.read(self._key(snapshot_id, _MANIFEST)):
                named.update(map(self.object_key, Manifest.from_json(held.data, snapshot_id).files.values()))
        return named

    def _key(self, *parts: str) -> str:
        return "/".join(("snapshots", self.partition.department, self.partition.domain, *parts))

    def _settle(self, key: str, data: bytes) -> None:
        held = self.bucket.read(key)
        if (held is None or held.data != data) and not self.bucket.replace(key, data, held.tag if held else None):
            raise DepotError(f"Another publisher writes {self.bucket.uri}/{key} at this moment. Publish again.")
