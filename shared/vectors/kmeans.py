"""Spherical k-means: part unit vectors into inverted lists by the nearest centre, so that a search visits few. Pure
numpy.

Spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", Machine
Learning 42, 2001) by matrix products, which are several times faster here than the k-means of a search library.
"""

import numpy as np
from numpy.typing import NDArray

from shared.vectors.unit import Vectors, normalise, usable

_ROUNDS, _TAUGHT_BY = 10, 64
_BLOCK_BYTES = 64 * 1024 * 1024


def centres(vectors: Vectors, count: int) -> Vectors:
    """The centres `(count, d)` of `count` inverted lists of unit vectors `(n, d)`, learned from 64 vectors a list, the
    same ones each time. `count` is 1 to `n`. A list may be empty."""
    order = np.random.default_rng(0).permutation(len(vectors))
    sample = vectors[np.sort(order[: _TAUGHT_BY * count])]
    found = vectors[order[:count]]
    for _ in range(_ROUNDS):
        cells = nearest_centre(sample, found)
        ranked = np.argsort(cells, kind="stable")
        held, first = np.unique(cells[ranked], return_index=True)
        means = normalise(np.add.reduceat(sample[ranked], first, axis=0))
        held, means = held[usable(means)], means[usable(means)]
        found[held] = means
    return found


def nearest_centre(vectors: Vectors, centres: Vectors) -> NDArray[np.int64]:
    """The number of each unit vector's nearest centre `(n,)`; vectors are `(n, d)`, centres `(c, d)`."""
    found = np.empty(len(vectors), np.int64)
    block = max(1, _BLOCK_BYTES // (4 * len(centres)))
    for first in range(0, len(vectors), block):
        found[first : first + block] = (vectors[first : first + block] @ centres.T).argmax(axis=1)
    return found


def reach(asked: Vectors, centres: Vectors, answers: NDArray[np.int64], share: float) -> tuple[int, float]:
    """The nprobe at which the lists nearest to each query `(q, d)` hold at least that share of the right answers, whose
    lists are given `(q, k)`; and the share that they hold."""
    order = np.argsort(-(asked @ centres.T), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    ranks = np.sort(np.take_along_axis(rank, answers, axis=1), axis=None)
    cells = int(ranks[int(np.ceil(share * len(ranks))) - 1]) + 1
    return cells, float((ranks < cells).mean())
