"""The manifest: all that a server must know of a snapshot. The snapshot's id and signature follow from its bytes."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from shared.embedding.embedder import EmbedderSpec
from shared.errors import ConfigError, SnapshotError
from shared.index.vector_store import StoreFigures
from shared.partition import Partition
from shared.snapshot.verdicts import QueryKind, Verdicts
from shared.storage.bucket import SMALL
from shared.storage.files import FileDigest

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
OF_NETWORKS = ("network.", "weights.")  # how names of files of networks begin
HASH_DIGITS = 16
PRODUCT_INDEX, PRODUCT_PROJECTION = "products_index", "products_projection"  # how names of their files begin

# The name of a file in the snapshot's folder: not hidden, no path of any system, nothing that a terminal would obey.
_PLAIN = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")
_MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class NetworkPart(EmbedderSpec):
    """The network that made the vectors, and the names of its files in the snapshot."""

    files: tuple[str, ...] = ()

    @property
    def spec(self) -> EmbedderSpec:
        """The network alone, as an embedder states it."""
        return EmbedderSpec(*(getattr(self, part.name) for part in fields(EmbedderSpec)))


@dataclass(frozen=True, slots=True)
class LivePoint:
    """The last live change that an index run merged: which journal it is of, and its number there."""

    journal: str
    seq: int


@dataclass(frozen=True, slots=True)
class CatalogPart:
    """The inputs of the snapshot. `material` is a digest of all of them, `live` the last live change in them."""

    uri: str
    etag: str = ""
    rows: int = 0
    material: str | None = None
    live: LivePoint | None = None


class Middle(StrEnum):
    """The use of the values behind a network's head."""

    UNUSED = ""
    INSTEAD = "instead"
    BESIDE = "beside"


class PhotoUse(StrEnum):
    """The use of the photos that shoppers took."""

    UNUSED = ""
    CENTRE = "centre"
    WHITEN = "whiten"
    ADAPT = "adapt"
    TEACH = "teach"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parts of the learned metric that are used; `indexer/metric/fit.py` says what each one does."""

    root: bool = False
    centre: bool = False
    within: bool = False
    middle: Middle = Middle.UNUSED
    pull: bool = False
    photos: PhotoUse = PhotoUse.UNUSED

    def __str__(self) -> str:
        """The parts that are used, in words; "" if there are none."""
        return " ".join(name if used is True else f"{name}={used}" for name, used in asdict(self).items() if used)


@dataclass(frozen=True, slots=True)
class LearnedPart:
    """The learned metric: the parts that won, and the gain of each one that was tried, in the judge's measure."""

    parts: Recipe
    judged: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlikePart:
    """The space in which products are compared with each other: which one was chosen, by which columns of the catalog
    (none where no column tells), and what each one reached (nDCG of the first 10 hits)."""

    space: str
    columns: tuple[str, ...] = ()
    judged: Mapping[str, float] = field(default_factory=dict)

    @property
    def estimate(self) -> float | None:
        """The measure that the chosen space reached; None where no column tells."""
        return self.judged.get(self.space)


@dataclass(frozen=True, slots=True)
class WindowsPart:
    """The search for the thing in a photo: whether it is `used`, below which evidence (`sure`) for what the whole photo
    finds, how much more (`margin`) a window needs, and R@1 of the photos that it was judged by."""

    used: bool
    sure: float
    margin: float = 0.0
    judged: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of the snapshot, as its index run estimated it. `estimate` is R@1, `coverage` the share of the
    catalog's products that are in it, `health` the number of faults by kind. `learned` is None for plain vectors."""

    estimate: float | None = None
    estimated_by: str | None = None
    verdicts: Mapping[QueryKind, Verdicts] = field(default_factory=dict)
    coverage: float | None = None
    health: Mapping[str, int] = field(default_factory=dict)
    learned: LearnedPart | None = None
    alike: AlikePart | None = None
    windows: WindowsPart | None = None


@dataclass(frozen=True, slots=True)
class IndexPart(StoreFigures):
    """The kind and figures of the store, and the recall of the neighbour table."""

    neighbours_recall_at_10: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a server must know of a snapshot. `count` is of vectors (images), `failures` of refused rows by kind.
    `product_dimension` is that of the space in which products are compared with each other, None where that is the one
    in which photos are searched."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)  # of its parts, too

    format: int
    department: str
    domain: str
    created: str
    count: int
    products: int
    dimension: int
    metric: str
    store: str
    embedder: NetworkPart
    catalog: CatalogPart
    failures: Mapping[str, int]
    files: Mapping[str, FileDigest]
    quality: Quality
    index: IndexPart
    product_dimension: int | None = None

    @property
    def partition(self) -> Partition:
        return Partition(self.department, self.domain)

    @property
    def spec(self) -> EmbedderSpec:
        return self.embedder.spec

    def to_json(self) -> bytes:
        """The text of `manifest.json`, without the fields that are not known."""
        return json.dumps(asdict(self, dict_factory=_known), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Manifest":
        """Parse the manifest of the snapshot of that name. Raises `SnapshotError` if the text is none of this
        format."""
        try:
            version = json.loads(data)["format"]
            if version != FORMAT:
                raise SnapshotError(
                    f"The snapshot {name} has format {version}; this program reads format {FORMAT}. "
                    "Use the program that wrote it, or index again."
                )
            manifest = TypeAdapter(cls).validate_json(data)
            _ = manifest.partition, datetime.fromisoformat(manifest.created)  # a server needs them
            _check_files(manifest)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise SnapshotError(f"The manifest of {name} is not readable: {place!r}: {first['msg']}.") from error
        except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
            raise SnapshotError(f"The manifest of {name} is not readable: {reason}.") from error
        return manifest


def _check_files(manifest: Manifest) -> None:
    """Raise `SnapshotError` unless every file has a plain name in the snapshot's folder, and those of the network are
    among them. All paths into a snapshot are made of these names."""
    of_network = set(manifest.embedder.files)
    for name in (*manifest.files, *of_network):
        if not _PLAIN.fullmatch(name) or len(name.encode("utf-8", "replace")) > 255 or name in (MANIFEST, SIGNATURE):
            raise SnapshotError(
                f"The manifest of a snapshot of {manifest.partition} names {name[:80]!r}, which is no "
                "file in the snapshot. Index again."
            )
    if not of_network <= manifest.files.keys() or not all(name.startswith(OF_NETWORKS) for name in of_network):
        raise SnapshotError(
            f"The manifest of a snapshot of {manifest.partition} names files of its network that it "
            "does not list. Index again."
        )
    if len(manifest.files) > _MOST_FILES or any(digest.bytes < 0 for digest in manifest.files.values()):
        raise SnapshotError(
            f"The manifest of a snapshot of {manifest.partition} lists more than {_MOST_FILES:,} files, "
            "or one of less than 0 bytes. Index again."
        )


def _known(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def content_name(manifest: bytes) -> str:
    """The end of a snapshot's id: the beginning of the manifest's SHA-256."""
    return hashlib.sha256(manifest).hexdigest()[:HASH_DIGITS]


def signature(manifest: bytes, key: str) -> bytes:
    """The content of `manifest.sig`: HMAC-SHA256 of the manifest's bytes, in hexadecimal."""
    return hmac.new(key.encode(), manifest, hashlib.sha256).hexdigest().encode() + b"\n"


def checked_manifest(
    snapshot_id: str, data: bytes, signed: bytes | None, key: str | None, partition: Partition | None = None
) -> Manifest:
    """Check a manifest and return it: the snapshot is named after it, and, if they are given, it is signed with the key
    and of the partition. Raises `SnapshotError` otherwise."""
    if len(data) > SMALL:
        raise SnapshotError(
            f"The manifest of {snapshot_id} is larger than {SMALL:,} bytes, so it is none of this program."
        )
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
