"""Top-k of many scores, at the speed of the matrix product that made them. Pure numpy."""

import numpy as np
from numpy.typing import NDArray

from shared.vectors.unit import Vectors

DIGITS = 6


def best_products(
    scores: Vectors, owners: NDArray[np.int64], without: NDArray[np.int64], k: int, likely: int
) -> tuple[NDArray[np.int64], Vectors]:
    """The `k` best products of each row of scores `(n, columns)`: the column of their best image, and its score rounded
    to `DIGITS`, both `(n, k)`; best first, ties in the products' order.

    `owners` `(columns,)` ascends and says whose each column is; row i leaves out the product `without[i]`; of others
    there must be `k`. About `likely` columns, at least 1, are looked at closely: enough to hold the answer, mostly.
    """
    floor = _floor(scores, likely)
    asked, columns = np.divmod(np.flatnonzero(scores >= floor), scores.shape[1])
    mine = owners[columns] != without[asked]
    asked, columns = asked[mine], columns[mine]
    close, whose = scores[asked, columns].round(DIGITS), owners[columns]
    # A group: what one row asks of one product. Its first image that reaches the group's best stands for it.
    new = np.ones(len(asked), bool)
    new[1:] = (asked[1:] != asked[:-1]) | (whose[1:] != whose[:-1])
    begins = np.flatnonzero(new)
    best = np.maximum.reduceat(close, begins) if len(begins) else close
    group = np.cumsum(new) - 1
    reaching = np.flatnonzero(close == best[group])
    images = columns[reaching[np.unique(group[reaching], return_index=True)[1]]]
    asked = asked[begins]
    counts = np.bincount(asked, minlength=len(scores))
    place = np.arange(len(asked)) - np.repeat(np.cumsum(counts) - counts, counts)
    ranked = np.full((len(scores), max(k, counts.max(initial=0))), -np.inf, np.float32)
    found = np.zeros(ranked.shape, np.int64)
    ranked[asked, place], found[asked, place] = best, images
    near = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
    answers, values = np.take_along_axis(found, near, axis=1), np.take_along_axis(ranked, near, axis=1)
    # Where many images of few products were close, or the last answer may tie with one that was not: look further.
    short = values[:, -1] <= floor[:, 0].round(DIGITS)
    if short.any():
        answers[short], values[short] = best_products(scores[short], owners, without[short], k, 4 * likely)
    return answers, values


def _floor(scores: Vectors, likely: int) -> Vectors:
    """A value for each row `(n, 1)` that at least `likely` of its scores reach, and not many more.

    Among the maxima of disjoint parts, the `likely`-th; a hair less, so that ties after rounding are all above it.
    """
    width = scores.shape[1]
    if likely >= width:
        return np.full((len(scores), 1), -np.inf, np.float32)
    parts = max(1, width // (8 * likely))
    # Strided parts, so that the maximum runs along memory; the last few columns are in none.
    peaks = scores[:, : width // parts * parts].reshape(len(scores), parts, -1).max(axis=1)
    floor: Vectors = np.partition(peaks, -likely, axis=1)[:, -likely, None] - np.float32(2 * 10**-DIGITS)
    return floor


def best_of_each(
    scores: Vectors, rows: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[Vectors, NDArray[np.int64]]:
    """Each product's best score and its row, best first; ties by row."""
    ranked = np.lexsort((rows, -scores))
    _, first = np.unique(owners[ranked], return_index=True)
    kept = ranked[np.sort(first)]
    return scores[kept], rows[kept]
