"""The default store: an exact FAISS inner-product index in one file."""

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.files import write_synced
from shared.vectors import Vectors

# One query on two OpenMP threads is 3 to 6 times slower than on one; batches go through numpy (`neighbours`).
faiss.omp_set_num_threads(1)

# Up to so many allowed rows, multiplying with their vectors is faster than FAISS's selector.
_GATHERED = 1000


def build_faiss(vectors: Vectors, path: Path) -> None:
    """Write an index over `(n, d)` unit vectors. Raises `OSError` on a full disk.

    `faiss.write_index` would lose the last bytes there without a word.
    """
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    write_synced(path, faiss.serialize_index(index).data)


class FaissStore:
    """A `VectorStore` over a verified file. Wrong questions are stopped here: FAISS crashes or answers nonsense."""

    def __init__(self, path: Path) -> None:
        try:
            self._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise SnapshotError(f"FAISS cannot read {path}: {error}") from error

    @property
    def count(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        if allowed is not None and allowed.shape != (self.count,):
            raise ValueError(f"allowed has the shape {allowed.shape}; it must be that of {self.count} rows")
        count = self.count if allowed is None else int(np.count_nonzero(allowed))
        if not 1 <= k <= count:
            raise ValueError(f"k is {k}; it must be 1 to {count}")
        if queries.ndim != 2 or queries.shape[1] != self.dimension or not np.isfinite(queries).all():
            raise ValueError(f"queries of shape {queries.shape} are not finite vectors of {self.dimension} values")
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            scores, rows = self._index.search(queries, k)
        elif count <= _GATHERED:
            scores, rows = self._search_few(queries, k, np.flatnonzero(allowed))
        else:
            bits = np.packbits(allowed, bitorder="little")
            how = faiss.SearchParameters()
            how.sel = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            scores, rows = self._index.search(queries, k, params=how)
        return scores, rows

    def _search_few(self, queries: Vectors, k: int, rows: NDArray[np.int64]) -> tuple[Vectors, NDArray[np.int64]]:
        """Multiply with the vectors of these rows, which is exact for every kind of index."""
        scores = queries @ self._index.reconstruct_batch(rows).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), rows[best]

    def vectors(self, start: int, stop: int) -> Vectors:
        if not 0 <= start < stop <= self.count:
            raise ValueError(f"rows {start} to {stop} are not within 0 to {self.count}")
        found: Vectors = self._index.reconstruct_n(start, stop - start)
        return found
