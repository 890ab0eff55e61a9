"""The neighbour table: each product's nearest products, by matrix products in blocks. Pure numpy, but for its two
files.

A product is searched by the mean direction of its images, so that they vote together and no single odd image decides.
Its similarity to another is the cosine of that with the other's best image.

    neighbours.rows.npy    int32 (products, k): the best image of each near product, nearest first
    neighbours.scores.npy  float32 (products, k): its score, rounded to `DIGITS`
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.index.row_groups import RowGroups
from shared.storage.arrays import read_array, write_array
from shared.vectors.kmeans import centres, nearest_centre, reach
from shared.vectors.top_k import best_products
from shared.vectors.unit import Vectors, normalise, usable

KEPT = 100
EXACT_WORK = 2e13  # multiplications: about five minutes on two cores
_BLOCK_BYTES = 64 * 1024 * 1024
# With inverted lists: the recall to reach, among how many first hits, and of how many products it is measured.
_RECALL, _DEPTH, _SAMPLE = 0.99, 10, 300


@dataclass(frozen=True, slots=True)
class NeighbourTable:
    """The table described above. `recall` is the measured share of the right first 10 that it holds, which the files do
    not keep."""

    rows: NDArray[np.int32]
    scores: Vectors
    recall: float = 1.0


def build_neighbour_table(
    vectors: Vectors, groups: RowGroups, kept: int = KEPT, exact_work: float = EXACT_WORK
) -> NeighbourTable:
    """Compare all products with all; if that takes more than `exact_work` multiplications, the products of each
    inverted list with the lists around it, as many as hold 0.99 of the right first 10. Scores are exact either way.

    `vectors` are unit vectors `(rows, d)`; `groups` says whose they are.
    """
    products = groups.count
    k = min(kept, products - 1)
    if k <= 0:
        return NeighbourTable(np.zeros((products, 0), np.int32), np.zeros((products, 0), np.float32))
    catalog = _Catalog.of(vectors, groups)
    if products * vectors.size <= exact_work:
        return NeighbourTable(*catalog.nearest(np.arange(products), k))
    return _by_cells(catalog, k)


def mean_directions(vectors: Vectors, starts: NDArray[np.int32]) -> Vectors:
    """The vector that each product is searched by `(products, d)`: the mean of its unit vectors, scaled to length 1.

    Where they cancel out, its first one.
    """
    mine = vectors[starts[0] : starts[-1]]
    means = normalise(np.add.reduceat(mine, starts[:-1] - starts[0], axis=0))
    return np.where(usable(means)[:, None], means, mine[starts[:-1] - starts[0]])


@dataclass(frozen=True, slots=True)
class _Catalog:
    """Vectors `(rows, d)`, the product of each `(rows,)`, and the vector that each product is searched by `(products,
    d)`."""

    vectors: Vectors
    owners: NDArray[np.int64]
    means: Vectors

    @classmethod
    def of(cls, vectors: Vectors, groups: RowGroups) -> "_Catalog":
        starts, some = groups.starts, 1 << 15
        means = [mean_directions(vectors, starts[first : first + some + 1]) for first in range(0, groups.count, some)]
        return cls(vectors, groups.owners, np.concatenate(means))

    def nearest(
        self, asked: NDArray[np.int64], k: int, near: NDArray[np.int64] | slice = slice(None)
    ) -> tuple[NDArray[np.int32], Vectors]:
        """The `k` best other products of each of the `asked` ones, among the rows `near`: the row of their best image,
        and its score."""
        vectors, owners, numbers = self.vectors[near], self.owners[near], np.arange(len(self.owners), dtype=np.int32)
        rows, scores = np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32)
        images = len(self.vectors) / len(self.means)
        likely = round((k + 1) * (1.5 * images - 0.5))  # images of one product often stand together
        block = max(1, _BLOCK_BYTES // (4 * len(vectors)))
        for at in (slice(first, first + block) for first in range(0, len(asked), block)):
            found, scores[at] = best_products(self.means[asked[at]] @ vectors.T, owners, asked[at], k, likely)
            rows[at] = numbers[near][found]
        return rows, scores


def _by_cells(catalog: _Catalog, k: int) -> NeighbourTable:
    """Build the table by inverted lists, as many as each has vectors."""
    products = len(catalog.means)
    middles = centres(catalog.vectors, round(len(catalog.vectors) ** 0.5))
    places, asking = nearest_centre(catalog.vectors, middles), nearest_centre(catalog.means, middles)
    sample = np.sort(np.random.default_rng(0).permutation(products)[:_SAMPLE])
    right, _ = catalog.nearest(sample, min(k, _DEPTH))
    visited, recall = reach(middles[asking[sample]], middles, places[right], _RECALL)
    around = np.argsort(-(middles @ middles.T), axis=1, kind="stable")
    rows, scores = np.empty((products, k), np.int32), np.empty((products, k), np.float32)
    for cell in np.unique(asking):
        cells = visited
        while True:
            near = np.flatnonzero(np.isin(places, around[cell, :cells]))
            if len(np.unique(catalog.owners[near])) > k:
                break
            cells *= 2
        asked = np.flatnonzero(asking == cell)
        rows[asked], scores[asked] = catalog.nearest(asked, k, near)
    return NeighbourTable(rows, scores, recall)


def write_neighbour_table(neighbours: NeighbourTable, folder: Path) -> None:
    """Write the two files."""
    write_array(folder / "neighbours.rows.npy", neighbours.rows)
    write_array(folder / "neighbours.scores.npy", neighbours.scores)


def open_neighbour_table(folder: Path, products: int) -> NeighbourTable:
    """Map the two files. Raises `SnapshotError` if they are not those of so many products."""
    rows = read_array(folder / "neighbours.rows.npy", np.int32, 2)
    scores = read_array(folder / "neighbours.scores.npy", np.float32, 2)
    if rows.shape != scores.shape or len(rows) != products:
        raise SnapshotError(f"The neighbour files in {folder} do not belong to its {products} products.")
    return NeighbourTable(rows, scores)
