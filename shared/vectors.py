"""Pure numpy on vectors. Everything returns new arrays; nothing changes its input."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]


def normalise(vectors: Vectors) -> Vectors:
    """Scale each row of `(n, d)` to length 1. A row that has no direction (zero, NaN, infinite) becomes all NaN."""
    wide = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        lengths[~np.isfinite(lengths) | (lengths == 0)] = np.nan
        unit: Vectors = (wide / lengths).astype(np.float32)
    return unit


def usable(vectors: Vectors) -> NDArray[np.bool_]:
    """Which rows of `(n, d)` are finite: `(n,)`."""
    return np.asarray(np.isfinite(vectors).all(axis=1))


def fuse(parts: Sequence[Vectors]) -> Vectors:
    """Join vectors of several networks with equal weight: each normalised, joined, normalised again."""
    return normalise(np.concatenate([normalise(part) for part in parts], axis=1))
