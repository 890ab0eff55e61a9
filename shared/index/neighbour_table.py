"""The neighbour table: each product's nearest products, by matrix products in blocks. Pure numpy, but for its two
files.

Each image of a product asks for itself. The similarity of two products is the cosine of their best pair of images: a
front is compared with a front, a back with a back. Of very many images the first `ASKING` ask.

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
from shared.vectors.top_k import DIGITS, best_products
from shared.vectors.unit import Vectors, normalise, usable

KEPT = 100
ASKING = 16
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
    catalog = _Catalog(vectors, groups, groups.owners)
    if products * vectors.size <= exact_work:
        return NeighbourTable(*catalog.nearest(catalog.asking, k))
    return _by_cells(catalog, k)


def mean_directions(vectors: Vectors, groups: RowGroups) -> Vectors:
    """The mean of each product's unit vectors, scaled to length 1: `(products, d)`. Where they cancel out, its first
    one."""
    found, some = np.empty((groups.count, vectors.shape[1]), np.float32), 1 << 15
    for first in range(0, groups.count, some):
        starts = groups.starts[first : first + some + 1]
        mine, begins = vectors[starts[0] : starts[-1]], starts[:-1] - starts[0]
        means = normalise(np.add.reduceat(mine, begins, axis=0))
        found[first : first + some] = np.where(usable(means)[:, None], means, mine[begins])
    return found


@dataclass(frozen=True, slots=True)
class _Catalog:
    """Vectors `(rows, d)`, whose they are, and the product of each row."""

    vectors: Vectors
    groups: RowGroups
    owners: NDArray[np.int64]

    @property
    def asking(self) -> NDArray[np.int64]:
        """The rows of the images that ask."""
        return np.flatnonzero(np.arange(len(self.owners)) - self.groups.first[self.owners] < ASKING)

    def nearest(
        self, asking: NDArray[np.int64], k: int, near: NDArray[np.int64] | slice = slice(None)
    ) -> tuple[NDArray[np.int32], Vectors]:
        """The `k` best other products of each product that has one of the rows `asking`, among the rows `near`: the row
        of the best image, and its score."""
        vectors, owners = self.vectors[near], self.owners[near]
        numbers = np.arange(len(self.vectors), dtype=np.int32)[near]
        asked, begins = np.unique(self.owners[asking], return_index=True)
        ends = np.append(begins[1:], len(asking))
        rows, scores = np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32)
        images = len(self.vectors) / self.groups.count
        likely = round((k + 1) * (1.5 * images - 0.5))  # images of one product often stand together
        block = max(1, _BLOCK_BYTES // (4 * len(vectors)))  # images that ask at once
        for at in np.split(np.arange(len(asked)), np.flatnonzero(np.diff(ends // block)) + 1):
            first = begins[at[0]]
            likeness = self.vectors[asking[first : ends[at[-1]]]] @ vectors.T
            if len(likeness) > len(at):
                likeness = np.maximum.reduceat(likeness, begins[at] - first, axis=0)
            found, scores[at] = best_products(likeness, owners, asked[at], k, likely)
            rows[at] = numbers[found]
        return rows, scores


def _by_cells(catalog: _Catalog, k: int) -> NeighbourTable:
    """Build the table by inverted lists, as many as each has vectors. An image asks in the lists around its own."""
    groups, owners = catalog.groups, catalog.owners
    middles = centres(catalog.vectors, round(len(catalog.vectors) ** 0.5))
    places = nearest_centre(catalog.vectors, middles)
    sample = groups.first[np.sort(np.random.default_rng(0).permutation(groups.count)[:_SAMPLE])].astype(np.int64)
    right, _ = catalog.nearest(sample, min(k, _DEPTH))
    visited, recall = reach(middles[places[sample]], middles, places[right], _RECALL)
    around = np.argsort(-(middles @ middles.T), axis=1, kind="stable")
    rows, scores = np.zeros((groups.count, k), np.int32), np.full((groups.count, k), -np.inf, np.float32)
    asking = catalog.asking
    for cell in np.unique(places[asking]):
        cells = visited
        while True:
            near = np.flatnonzero(np.isin(places, around[cell, :cells]))
            if len(np.unique(owners[near])) > k:
                break
            cells *= 2
        images = asking[places[asking] == cell]
        asked, found = np.unique(owners[images]), catalog.nearest(images, k, near)
        rows[asked], scores[asked] = _merged((rows[asked], scores[asked]), found, groups)
    for product in range(groups.count):  # an image whose lists lacked a row may be nearer to it
        own = catalog.vectors[groups.rows(product)[:ASKING]]
        exact = (own @ catalog.vectors[rows[product]].T).max(axis=0).round(DIGITS)
        order = np.lexsort((rows[product], -exact))
        rows[product], scores[product] = rows[product][order], exact[order]
    return NeighbourTable(rows, scores, recall)


def _merged(
    one: tuple[NDArray[np.int32], Vectors], other: tuple[NDArray[np.int32], Vectors], groups: RowGroups
) -> tuple[NDArray[np.int32], Vectors]:
    """Merge two tables of the same products, `(n, k)` each: each near product once, by its better row."""
    rows, scores = np.concatenate([one[0], other[0]], axis=1), np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((rows, -scores))
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    owners = groups.owners_of(rows)
    grouped = np.argsort(owners, axis=1, kind="stable")
    owners = np.take_along_axis(owners, grouped, axis=1)
    again = np.zeros(rows.shape, bool)
    np.put_along_axis(again, grouped[:, 1:], owners[:, 1:] == owners[:, :-1], axis=1)
    kept = np.argsort(again, axis=1, kind="stable")[:, : one[0].shape[1]]
    return np.take_along_axis(rows, kept, axis=1), np.take_along_axis(scores, kept, axis=1)


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
