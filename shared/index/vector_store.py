"""Where vectors lie and are searched, behind one small protocol, and the registry that names the kinds.

A store knows rows (0, 1, 2, .. in the order they were added), never product ids.
"""

from pathlib import Path
from typing import Any, Protocol

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


NAMES = ("faiss",)


def build(name: str, vectors: Vectors, folder: Path) -> dict[str, Any]:
    """Write a store of that kind over `(n, d)` unit vectors into `folder`, as `index.<name>`. Returns what the
    manifest says of it: its kind, its bytes, and where it is approximate, its measured recall."""
    if name not in NAMES:
        raise ConfigError(f"There is no store {name!r}. Use one of: {', '.join(NAMES)}.")
    from shared.index.faiss_store import build_faiss

    return build_faiss(vectors, folder / "index.faiss")


def open_store(folder: Path) -> VectorStore:
    """The store in a snapshot's folder, whose files must have been verified before."""
    from shared.index.faiss_store import FaissStore

    return FaissStore(folder / "index.faiss")
