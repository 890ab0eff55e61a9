"""A snapshot: one partition's index in a folder, written once, never changed, and named by its time and content.

    <data>/snapshots/371/0341/CURRENT                              the id of the snapshot that serves; replaced last
    <data>/snapshots/371/0341/PREVIOUS                             the id of the one that served before
    <data>/snapshots/371/0341/20261122T103000Z-1f3a5c7e9b2d4f60/   manifest.json and the files that it lists

The id ends with the beginning of the manifest's SHA-256, and the manifest holds the SHA-256 of every other file, so
nothing can change unseen. Every file is checked before anything reads it. Where a signing key is set, `manifest.sig`
beside the manifest says who wrote it.
"""

from copy import copy
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.embedding.engines.runtime import Runtime
from shared.errors import SnapshotError, UnknownProduct
from shared.index import vector_store
from shared.index.columns import Columns, open_columns
from shared.index.filters import Filter
from shared.index.listing import Listing
from shared.index.neighbour_table import NeighbourTable, open_neighbour_table
from shared.index.product_table import ProductTable
from shared.partition import Partition
from shared.snapshot.directory import current_id
from shared.snapshot.network_files import OF_NETWORKS, carried_embedder
from shared.snapshot.verdicts import Verdicts
from shared.snapshot.verify import verify
from shared.vectors.projection import Projection

if TYPE_CHECKING:
    from shared.live.overlay import Overlay


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
        self.neighbours: NeighbourTable = open_neighbour_table(folder, self.products.count)
        self.store = vector_store.open_store(folder)
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
