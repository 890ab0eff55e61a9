"""Pure numpy on vectors. Everything returns new arrays; nothing changes its input."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]

_BLOCK = 1024  # rows


def normalise(vectors: Vectors) -> Vectors:
    """Scale each row of `(n, d)` to length 1. A row that has no direction (zero, NaN, infinite) becomes all NaN."""
    return in_blocks(_normalised, vectors)


def _normalised(vectors: Vectors) -> Vectors:
    wide = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        lengths[~np.isfinite(lengths) | (lengths == 0)] = np.nan
        unit: Vectors = (wide / lengths).astype(np.float32)
    return unit


def in_blocks(change: Callable[[Vectors], Vectors], vectors: Vectors) -> Vectors:
    """Change each row of `(n, d)`, block by block, so that the working memory stays small."""
    width = change(vectors[:0]).shape[1]
    changed = np.empty((len(vectors), width), np.float32)
    for block in blocks(len(vectors)):
        changed[block] = change(vectors[block])
    return changed


def blocks(count: int) -> Iterator[slice]:
    """Yield all rows, some at a time."""
    return (slice(at, at + _BLOCK) for at in range(0, count, _BLOCK))


def usable(vectors: Vectors) -> NDArray[np.bool_]:
    """Tell which rows of `(n, d)` are finite: `(n,)`."""
    return np.asarray(np.isfinite(vectors).all(axis=1))


def fuse(parts: Sequence[Vectors], shares: Sequence[float]) -> Vectors:
    """Join vectors of several networks: each to length 1, times the root of its share of all, so that the length is 1
    and a cosine is the weighted mean of the networks' own."""
    total = sum(shares)
    scaled = [normalise(part) * np.float32((share / total) ** 0.5) for part, share in zip(parts, shares, strict=True)]
    return np.concatenate(scaled, axis=1)
