"""All that a server must know of a snapshot, the id that follows from it, and who wrote it."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from shared.embedding.embedder import EmbedderSpec
from shared.errors import ConfigError, SnapshotError
from shared.partition import Partition
from shared.storage.files import FileDigest

FORMAT = 1
SIGNATURE = "manifest.sig"
HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a server must know of a snapshot. `count` is of vectors (images), `failures` of refused rows by kind.
    `index` says which kind of store was built, with what recall; it is empty in older snapshots."""

    format: int
    department: str
    domain: str
    created: str
    count: int
    products: int
    dimension: int
    metric: str
    store: str
    embedder: Mapping[str, Any]
    catalog: Mapping[str, Any]
    failures: Mapping[str, int]
    files: Mapping[str, FileDigest]
    quality: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)

    @property
    def partition(self) -> Partition:
        return Partition(self.department, self.domain)

    @property
    def spec(self) -> EmbedderSpec:
        return EmbedderSpec(**{key: value for key, value in self.embedder.items() if key != "files"})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Manifest":
        """The manifest of the snapshot of that name. Raises `SnapshotError` where the text is none of this format."""
        try:
            version = json.loads(data)["format"]
            if version != FORMAT:
                raise SnapshotError(
                    f"The snapshot {name} has format {version}; this program reads format {FORMAT}. "
                    "Use the program that wrote it, or index again."
                )
            manifest = TypeAdapter(cls).validate_json(data, strict=True)
            # What is made of it when it serves can be made.
            _ = manifest.spec, manifest.partition, datetime.fromisoformat(manifest.created)
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            reason = " ".join(str(error).split())
            raise SnapshotError(f"The manifest of {name} is not readable: {type(error).__name__}: {reason}") from error
        return manifest


def content_name(manifest: bytes) -> str:
    """What a snapshot's id ends with."""
    return hashlib.sha256(manifest).hexdigest()[:HASH_DIGITS]


def signature(manifest: bytes, key: str) -> bytes:
    """The content of `manifest.sig`: HMAC-SHA256 of the manifest's bytes, in hexadecimal."""
    return hmac.new(key.encode(), manifest, hashlib.sha256).hexdigest().encode() + b"\n"


def checked_manifest(
    snapshot_id: str, data: bytes, signed: bytes | None, key: str | None, partition: Partition | None = None
) -> Manifest:
    """The manifest, if it is the one that the snapshot is named after, and was signed with the key, and is one of the
    partition, where they are given. Raises `SnapshotError` otherwise."""
    if not snapshot_id.endswith(f"-{content_name(data)}"):
        raise SnapshotError(f"The manifest of {snapshot_id} is not the one that the snapshot is named after.")
    if key:
        if signed is None:
            raise SnapshotError(f"The snapshot {snapshot_id} is not signed, and SIMILARITY_SIGNING_KEY asks for it.")
        if not hmac.compare_digest(signed.strip(), signature(data, key).strip()):
            raise SnapshotError(f"The snapshot {snapshot_id} is signed with another key than SIMILARITY_SIGNING_KEY.")
    manifest = Manifest.from_json(data, snapshot_id)
    if partition and manifest.partition != partition:
        raise SnapshotError(f"The snapshot {snapshot_id} is one of {manifest.partition}, not of {partition}.")
    return manifest
