"""A snapshot: one partition's index in a folder, written once, never changed, and named by its time and content.

    <data>/snapshots/371/0341/CURRENT                              the id of the snapshot that serves; replaced last
    <data>/snapshots/371/0341/PREVIOUS                             the id of the one that served before
    <data>/snapshots/371/0341/20261122T103000Z-1f3a5c7e9b2d4f60/   manifest.json and the files that it lists

The id ends with the beginning of the manifest's SHA-256, and the manifest holds the SHA-256 of every other file, so
nothing can change unseen. Every file is checked before anything reads it. Where a signing key is set, `manifest.sig`
beside the manifest says who wrote it.
"""

import fcntl
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared import stores
from shared.carried import OF_NETWORKS, carried_embedder, network_files
from shared.columns import Columns, columns_of, open_columns, write_columns
from shared.embedders import Embedder, EmbedderSpec
from shared.embedders.runtime import Runtime
from shared.errors import ConfigError, SnapshotError, UnknownProduct
from shared.files import copy_synced, mark, replace_atomically, sync_folder, write_synced
from shared.filters import Filter
from shared.lease import is_leased
from shared.listing import Listing
from shared.manifest import FORMAT, HASH_DIGITS, SIGNATURE, Manifest, checked_manifest, content_name, signature
from shared.neighbours import Neighbours, nearest_products, open_neighbours, write_neighbours
from shared.partition import Partition
from shared.products import ProductImage, ProductTable, write_products
from shared.projection import Projection
from shared.vectors import Vectors
from shared.verdicts import Verdicts

if TYPE_CHECKING:
    from shared.overlay import Overlay

_ID = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]{{{HASH_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Draft:
    """What goes into a new snapshot. `images` and the rows of `vectors` correspond, and are grouped by product.
    `neighbours` is computed where it is not given."""

    partition: Partition
    images: Sequence[ProductImage]
    vectors: Vectors
    embedder: Embedder
    projection: Projection | None
    store: str
    catalog: Mapping[str, Any]
    failures: Mapping[str, int]
    report: Mapping[str, Any]
    refused_csv: bytes
    quality: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Neighbours | None = None


def write_snapshot(data: Path, draft: Draft, key: str | None = None) -> str:
    """Write the snapshot, signed where there is a key, and return its id. It does not serve before `activate`.

    Hold the partition's lock (`exclusive`) meanwhile. Raises `OSError` on a full disk, leaving nothing behind.
    """
    parent = draft.partition.folder(data)
    folder = parent / ".writing"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        about = stores.build(draft.store, draft.vectors, folder)
        write_products(draft.images, folder)
        write_columns(columns_of(image.attributes for image in draft.images), folder)
        table = ProductTable(folder)
        near = draft.neighbours or nearest_products(draft.vectors, table.starts)
        write_neighbours(near, folder)
        if draft.projection:
            draft.projection.write(folder)
        write_synced(folder / "report.json", json.dumps(draft.report, indent=1).encode())
        write_synced(folder / "refused.csv", draft.refused_csv)
        network = network_files(draft.embedder.files())
        for name, path in network.items():
            copy_synced(path, folder / name)
        now = datetime.now(UTC)
        manifest = Manifest(
            format=FORMAT,
            department=draft.partition.department,
            domain=draft.partition.domain,
            created=now.isoformat(timespec="seconds"),
            count=len(draft.vectors),
            products=table.count,
            dimension=draft.vectors.shape[1],
            metric="inner_product",
            store=draft.store,
            embedder={**asdict(draft.embedder.spec), "files": [*network]},
            catalog=draft.catalog,
            failures=draft.failures,
            quality=draft.quality,
            index={**about, "neighbours_recall_at_10": round(near.recall, 4)},
            files={path.name: mark(path) for path in sorted(folder.iterdir())},
        ).to_json()
        write_synced(folder / "manifest.json", manifest)
        if key:
            write_synced(folder / SIGNATURE, signature(manifest, key))
        sync_folder(folder)
        snapshot_id = f"{now:%Y%m%dT%H%M%SZ}-{content_name(manifest)}"
        if (parent / snapshot_id).exists():  # the same content within the same second
            shutil.rmtree(folder)
        else:
            folder.rename(parent / snapshot_id)
            sync_folder(parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return snapshot_id


def activate(data: Path, partition: Partition, snapshot_id: str) -> None:
    """Make this snapshot the one that serves."""
    folder = partition.folder(data)
    with suppress(SnapshotError):  # an unreadable CURRENT is replaced, not remembered
        before = current_id(data, partition)
        if before and before != snapshot_id:
            replace_atomically(folder / "PREVIOUS", before.encode() + b"\n")
    replace_atomically(folder / "CURRENT", snapshot_id.encode() + b"\n")


@contextmanager
def exclusive(data: Path, partition: Partition, task: str = "indexing") -> Iterator[None]:
    """Only one run at a time may do this to a partition. Raises `ConfigError` where another one does."""
    folder = partition.folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{task}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"Another run is {task} {partition} in {data}. Wait for its end.") from error
        yield


def current_id(data: Path, partition: Partition) -> str | None:
    """The id of the snapshot that serves, or None where there is none. Raises `SnapshotError` if it is unreadable."""
    return _named_in(partition.folder(data) / "CURRENT")


def previous_id(data: Path, partition: Partition) -> str | None:
    """The id of the snapshot that served before, or None. Raises `SnapshotError` if it is unreadable."""
    return _named_in(partition.folder(data) / "PREVIOUS")


def snapshot_ids(data: Path, partition: Partition) -> list[str]:
    """The ids of all snapshots of a partition on this host, newest first."""
    return sorted(filter(is_id, (path.name for path in partition.folder(data).glob("*"))), reverse=True)


def is_id(text: str) -> bool:
    """Whether this is the form of a snapshot's id, and so safe in a path."""
    return _ID.fullmatch(text) is not None


def go_back(data: Path, partition: Partition, to: str | None = None, key: str | None = None) -> str:
    """Serve the snapshot `to` again, or the one that served before; return its id.

    Raises `SnapshotError` where it is not there, damaged or not signed as it should be; then nothing has changed.
    """
    wanted = to or previous_id(data, partition)
    if to is None and wanted == current_id(data, partition):  # a run was killed between PREVIOUS and CURRENT
        wanted = None
    with _choosing(data, partition):
        known = snapshot_ids(data, partition)
        if wanted not in known:
            which = f"The snapshot {to} is not" if to else "The one that served before is no longer"
            given = " or ".join(known) or "(there is none)"
            raise SnapshotError(f"{which} on this host. Give one of them: TO={given}.")
        verify(partition.folder(data) / wanted, key, partition)
        activate(data, partition, wanted)
    return wanted


def keep_newest(data: Path, partition: Partition, keep: int) -> list[str]:
    """Remove all but the newest `keep` snapshots, never the current or the previous one, nor one that a server of this
    host still serves; return the removed ids."""
    folder = partition.folder(data)
    with _choosing(data, partition):
        spared = {current_id(data, partition), previous_id(data, partition)}
        removed = [
            snapshot_id
            for snapshot_id in snapshot_ids(data, partition)[keep:]
            if snapshot_id not in spared and not is_leased(folder / snapshot_id)
        ]
        for snapshot_id in removed:
            shutil.rmtree(folder / snapshot_id)
    return removed


@contextmanager
def _choosing(data: Path, partition: Partition) -> Iterator[None]:
    """Nobody else removes a snapshot, or goes back to one, meanwhile."""
    folder = partition.folder(data)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".choosing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def partitions(data: Path) -> list[Partition]:
    """The partitions that have a current snapshot below the data folder."""
    found = []
    for path in (data / "snapshots").glob("*/*/CURRENT"):
        with suppress(ConfigError):  # somebody else's folder
            found.append(Partition(path.parent.parent.name, path.parent.name))
    return sorted(found)


def verify(
    folder: Path, key: str | None = None, partition: Partition | None = None, files: tuple[str, ...] = ("",)
) -> Manifest:
    """Check every byte of a snapshot against its name, its manifest and, where a key is set, its signature; or only the
    files whose names begin with one of `files`. Where a partition is given, it must be one of its.

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
        if path.parent != folder or not path.is_file():
            raise SnapshotError(f"The snapshot {folder} lacks its file {name}.")
        try:
            found = mark(path)
        except OSError as error:
            raise SnapshotError(f"The file {path} cannot be read: {error.strerror}.") from error
        if found != wanted:
            raise SnapshotError(f"The file {path} is not the one that was written: its SHA-256 differs.")
    return manifest


class Snapshot:
    """An open snapshot: verified, its files mapped into memory. Safe to read from many threads.

    With an `overlay`, `products` and `store` are as they were changed since; `neighbours` is never changed.
    """

    def __init__(self, folder: Path, key: str | None = None, partition: Partition | None = None) -> None:
        self.id = folder.name
        self.overlay: Overlay | None = None
        self.folder = folder
        self.manifest = verify(folder, key, partition)
        listed = self.manifest.files  # what else lies there was not verified
        self.products = ProductTable(folder)
        self.neighbours: Neighbours = open_neighbours(folder, self.products.count)
        self.store = stores.open_store(folder)
        self.projection = Projection.open(folder, listed)
        self._columns: Columns | None = open_columns(folder, self.products.rows)
        self._reading_columns = Lock()
        self.verdicts = Verdicts.from_manifest(self.manifest.quality)
        wanted = self.manifest
        found = (self.store.count, self.store.dimension, self.products.rows, self.products.count)
        fits = found == (wanted.count, wanted.dimension, wanted.count, wanted.products)
        if self.projection:
            last = self.projection.blocks[-1]
            fits &= self.projection.dimension == wanted.dimension
            fits &= last.start + last.means.shape[1] <= wanted.embedder["dimension"]
        if not fits:
            raise SnapshotError(f"The index of {folder} has not the size that its manifest states.")

    @classmethod
    def current(cls, data: Path, partition: Partition, key: str | None = None) -> "Snapshot":
        """Open the snapshot that serves. Raises `SnapshotError` where there is none, or it is damaged."""
        snapshot_id = current_id(data, partition)
        if snapshot_id is None:
            raise SnapshotError(f"There is no snapshot of {partition} in {data}. Make one: make index.")
        folder = partition.folder(data) / snapshot_id
        if folder.parent != partition.folder(data):
            raise SnapshotError(f"{partition.folder(data) / 'CURRENT'} does not name a snapshot.")
        return cls(folder, key, partition)

    @cached_property
    def listing(self) -> Listing:
        """Its products as one browses them."""
        return Listing(self.products)

    def under(self, overlay: "Overlay") -> "Snapshot":
        """This snapshot as it was changed since. This one stays as it is."""
        changed = copy(self)
        changed._columns, changed._reading_columns = None, Lock()
        changed.overlay, changed.products, changed.store = overlay, overlay.products, overlay.store
        changed.listing = overlay.listing
        return changed

    @property
    def tag(self) -> str:
        """What differs where answers may: the id, and which changes are laid over it."""
        return f"{self.id}+{self.overlay.version}" if self.overlay else self.id

    @property
    def views(self) -> bool:
        """Whether photos are seen several ways: not where vectors are meant to be as the network gives them."""
        return "learned" in self.manifest.quality

    def number(self, product_id: str) -> int:
        """The product's number in the table. Raises `UnknownProduct`."""
        found = self.products.find(product_id)
        if found is None:
            raise UnknownProduct(f"The product {product_id!r} is not in the index of {self.manifest.partition}.")
        return found

    @property
    def space(self) -> tuple[str, ...]:
        """What vectors and scores depend on: those of snapshots whose spaces are equal can be compared."""
        learned = [
            f"{name} {mark.sha256}" for name, mark in self.manifest.files.items() if name.startswith("projection.")
        ]
        return (self.spec.fingerprint, str(self.manifest.dimension), *sorted(learned))

    @property
    def columns(self) -> Columns:
        """Attributes of the rows."""
        with self._reading_columns:
            if self._columns is None:
                assert self.overlay
                self._columns = self.overlay.columns()
            return self._columns

    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        """Which rows may be answers under that filter: `(rows,)`. Raises `BadQuestion`."""
        admitted = self.columns.mask(wanted)
        return admitted & self.overlay.store.shown if self.overlay else admitted

    @property
    def spec(self) -> EmbedderSpec:
        return self.manifest.spec

    def load_embedder(self, runtime: Runtime | None = None) -> Embedder:
        """The network that made the vectors. Raises as `open_embedder` does."""
        return carried_embedder(self.folder, self.manifest, runtime or Runtime())


def open_embedder(folder: Path, runtime: Runtime, key: str | None = None) -> Embedder:
    """The network that made a snapshot's vectors, from its manifest and its own files alone, which are verified.

    Raises `ModelError` where it cannot be had, `SnapshotError` where the snapshot is damaged, or the network at hand
    has other weights or prepares images differently.
    """
    return carried_embedder(folder, verify(folder, key, files=OF_NETWORKS), runtime)


def _named_in(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
