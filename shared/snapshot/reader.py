"""A snapshot: one partition's index in a folder, written once, never changed, and named by its time and content.

    <data>/snapshots/371/0341/CURRENT                              the id of the snapshot that serves; replaced last
    <data>/snapshots/371/0341/PREVIOUS                             the id of the one that served before
    <data>/snapshots/371/0341/20261122T103000Z-1f3a5c7e9b2d4f60/   manifest.json and the files that it lists

The id ends with the beginning of the manifest's SHA-256, and the manifest holds the SHA-256 of every other file, so
nothing can change unseen. Every file is checked before anything reads it. Where a signing key is set, `manifest.sig`
beside the manifest says who wrote it.
"""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import Embedder
from shared.embedding.engines.runtime import Runtime
from shared.errors import SnapshotError
from shared.index.columns import Columns, open_columns
from shared.index.duplicates import Duplicates
from shared.index.filters import Filter
from shared.index.listing import TableListing
from shared.index.neighbour_table import open_neighbour_table
from shared.index.product_table import StoredTable
from shared.index.stores import open_store
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import OF_NETWORKS, PRODUCT_INDEX, PRODUCT_PROJECTION
from shared.snapshot.network_files import carried_embedder
from shared.snapshot.verify import verify
from shared.snapshot.view import NOT_PINNED, Neighbours, Pinned, SnapshotView
from shared.vectors.projection import Projection


class Snapshot(SnapshotView):
    """A snapshot as it was written: verified, its files mapped into memory."""

    def __init__(self, folder: Path, key: str | None = None, partition: Partition | None = None) -> None:
        self.id = self.tag = folder.name
        self.folder = folder
        self.manifest, self.signed = verify(folder, key, partition), bool(key)
        listed = self.manifest.files  # what else lies there was not verified
        self.products: StoredTable = StoredTable(folder)
        self.neighbour_table = open_neighbour_table(folder, self.products.count)
        count, kind = self.manifest.count, self.manifest.store
        self.store = open_store(kind, folder, size=(count, self.manifest.dimension))
        self.projection = Projection.open(folder, listed)
        self.product_projection, self.product_store = self.projection, self.store
        if self.manifest.product_dimension:
            self.product_projection = Projection.open(folder, listed, PRODUCT_PROJECTION)
            size = (count, self.manifest.product_dimension)
            self.product_store = open_store(kind, folder, PRODUCT_INDEX, size)
        self._columns = open_columns(folder, self.products.rows)
        self.duplicates = Duplicates.open(folder, listed, self.products.count)
        self.verdicts = self.manifest.quality.verdicts
        wanted = self.manifest
        fits = (self.products.rows, self.products.count) == (wanted.count, wanted.products)
        for projection, dimension in (
            (self.projection, wanted.dimension),
            (self.product_projection, wanted.product_dimension or wanted.dimension),
        ):
            if projection:
                fits &= projection.dimension == dimension
                ends = (block.start + block.means.shape[1] for block in projection.blocks)
                fits &= max(ends) <= wanted.embedder.dimension
        if not fits:
            raise SnapshotError(f"The snapshot {folder} has not the size that its manifest states.")

    @classmethod
    def current(cls, data: Path, partition: Partition, key: str | None = None) -> "Snapshot":
        """Open the snapshot that serves. Raises `SnapshotError` if there is none, or it is damaged."""
        return cls(PartitionFolder(data, partition).snapshot(), key, partition)

    @property
    def columns(self) -> Columns:
        return self._columns

    @cached_property
    def listing(self) -> TableListing:
        return TableListing(self.products)

    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        return self.columns.mask(wanted)

    def neighbours(self, product: int, without: Collection[int] = ()) -> Neighbours:
        table = self.neighbour_table
        rows, scores = table.rows[product], table.scores[product]
        if without:
            others = np.isin(self.products.owners(rows), list(without), invert=True)
            rows, scores = rows[others], scores[others]
        return Neighbours(rows, scores, table.rows.shape[1] == self.products.count - 1)

    def pinned(self, product_id: str, product: int) -> Pinned:
        return NOT_PINNED


def open_embedder(folder: Path, runtime: Runtime, key: str | None = None) -> Embedder:
    """The network that made a snapshot's vectors, from its manifest and its own files alone, which are verified.

    Raises `ModelError` where it cannot be had, `SnapshotError` where the snapshot is damaged, or the network at hand
    has other weights or prepares images differently.
    """
    return carried_embedder(folder, verify(folder, key, files=OF_NETWORKS), runtime, signed=bool(key))
