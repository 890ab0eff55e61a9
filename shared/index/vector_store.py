"""Vector stores: they hold vectors and search them, behind one small protocol.

A store knows rows (0, 1, 2, .. in the order they were added), never product ids.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
        """Search by `(n, d)`: scores `(n, k)`, best first, and their rows `(n, k)`; only of rows that are `allowed`
        `(count,)`, exactly. `k` must be 1 to the number of those."""
        ...

    def vectors(self, start: int, stop: int) -> Vectors:
        """The vectors of rows `start` to `stop - 1`, as they are stored: `(stop - start, d)`."""
        ...


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """The kind and size in bytes of a built index. For an approximate one also nprobe (`visited`), and the recall at 10
    that was measured with so many queries."""

    kind: str
    bytes: int
    visited: int | None = None
    recall_at_10: float | None = None
    questions: int | None = None
