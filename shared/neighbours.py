"""Products near products, exactly, by matrix products in blocks. Pure numpy, but for the two files it is kept in.

A product asks with the mean direction of its images, so that they vote together and no single odd image decides; its
similarity to another is the cosine of that with the other's best image.

    neighbours.rows.npy    int32 (products, k): the best image of each near product, nearest first
    neighbours.scores.npy  float32 (products, k): its score, rounded to `DIGITS`
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.products import read_array, write_array
from shared.vectors import Vectors, normalise, usable

KEPT = 100
DIGITS = 6
_BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The table described above."""

    rows: NDArray[np.int32]
    scores: Vectors


def nearest_products(vectors: Vectors, starts: NDArray[np.int32], kept: int = KEPT) -> Neighbours:
    """All products against all.

    `vectors` are unit vectors `(rows, d)`, grouped by product; `starts` `(products + 1,)` says where each begins.
    """
    products = len(starts) - 1
    k = min(kept, products - 1)
    rows = np.zeros((products, k), np.int32)
    scores = np.zeros((products, k), np.float32)
    per_block = max(1, _BLOCK_BYTES // (4 * max(1, len(vectors))))
    for first in range(0, products if k > 0 else 0, per_block):
        asked = np.arange(first, min(first + per_block, products))
        queries = mean_directions(vectors, starts[first : asked[-1] + 2])
        rows[asked], scores[asked] = _best(queries @ vectors.T, starts, asked, k)
    return Neighbours(rows, scores)


def mean_directions(vectors: Vectors, starts: NDArray[np.int32]) -> Vectors:
    """What products ask with, `(products, d)`: of each the mean of its unit vectors, scaled to length 1.

    Where they cancel out, its first one.
    """
    mine = vectors[starts[0] : starts[-1]]
    means = normalise(np.add.reduceat(mine, starts[:-1] - starts[0], axis=0))
    return np.where(usable(means)[:, None], means, mine[starts[:-1] - starts[0]])


def _best(
    scores: Vectors, starts: NDArray[np.int32], asked: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int32], Vectors]:
    """From scores `(asked, rows)` the `k` best other products of each: the row of their best image, and its score."""
    scores = scores.round(DIGITS)
    by_product = np.maximum.reduceat(scores, starts[:-1], axis=1)
    # The first image of each product that reaches the product's best score.
    images = np.arange(scores.shape[1], dtype=np.int32)
    reaches = scores == np.repeat(by_product, np.diff(starts), axis=1)
    best_image = np.minimum.reduceat(np.where(reaches, images, np.int32(len(images))), starts[:-1], axis=1)
    by_product[np.arange(len(asked)), asked] = -np.inf
    # A stable sort of all keeps ties in the products' order; a partition would not.
    near = np.argsort(-by_product, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(best_image, near, axis=1), np.take_along_axis(by_product, near, axis=1)


def write_neighbours(neighbours: Neighbours, folder: Path) -> None:
    """Write the two files."""
    write_array(folder / "neighbours.rows.npy", neighbours.rows)
    write_array(folder / "neighbours.scores.npy", neighbours.scores)


def open_neighbours(folder: Path, products: int) -> Neighbours:
    """Map the two files. Raises `SnapshotError` where they are not those of so many products."""
    rows = read_array(folder / "neighbours.rows.npy", np.int32, 2)
    scores = read_array(folder / "neighbours.scores.npy", np.float32, 2)
    if rows.shape != scores.shape or len(rows) != products:
        raise SnapshotError(f"The neighbour files in {folder} do not belong to its {products} products.")
    return Neighbours(rows, scores)
