"""Vector stores: hold vectors and search them, behind one small protocol; and the registry that names the kinds.

A store knows rows (0, 1, 2, .. in the order they were added), never product ids.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.vectors.unit import Vectors


class VectorStore(Protocol):
    """Unit vectors in, inner products out."""

    @property
    def count(self) -> int: ...

    @property
    def dimension(self) -> int: ...

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """`(n, d)` -> scores `(n, k)`, best first, and their rows `(n, k)`; only of rows that are `allowed` `(count,)`,
        exactly. `k` must be 1 to the number of those."""
        ...

    def vectors(self, start: int, stop: int) -> Vectors:
        """The vectors of rows `start` to `stop - 1`, as they are stored: `(stop - start, d)`."""
        ...


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What was built: the kind of index, and its size in bytes. Of an approximate one also how many inverted lists a
    query visits, and the recall at 10 that was measured with so many queries."""

    kind: str
    bytes: int
    visited: int | None = None
    recall_at_10: float | None = None
    questions: int | None = None


NAMES = ("faiss",)


def build(name: str, vectors: Vectors, folder: Path) -> StoreFigures:
    """Write a store of that kind over `(n, d)` unit vectors into `folder`, as `index.<name>`. Raises `ConfigError`."""
    if name not in NAMES:
        raise ConfigError(f"There is no store {name!r}. Use one of: {', '.join(NAMES)}.")
    from shared.index.faiss_store import build_faiss

    return build_faiss(vectors, folder / "index.faiss")


def open_store(folder: Path) -> VectorStore:
    """The store in a snapshot's folder, whose files must have been verified before."""
    from shared.index.faiss_store import FaissStore

    return FaissStore(folder / "index.faiss")
