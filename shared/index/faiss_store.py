"""The default store: one FAISS inner-product index in one file, whose kind follows the vectors' size.

Flat             exact, while one query reads it within 5 ms
SQfp16           exact on float16, while that is within 5 ms, and where it does not move answers
IVF<n>,SQfp16    approximate: the vectors lie in n inverted lists; nprobe is as high as the recall needs
IVF<n>,Flat      the same, where float16 would move answers
"""

import math
from pathlib import Path
from threading import Lock
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.index.vector_store import StoreFigures
from shared.storage.files import write_synced
from shared.vectors.kmeans import centres, nearest_centre, reach
from shared.vectors.recall import GroundTruth
from shared.vectors.unit import Vectors

# One query on two OpenMP threads is 3 to 6 times slower than on one; batches go through numpy (`neighbours`).
faiss.omp_set_num_threads(1)

EXACT_BYTES = 50 * 1024 * 1024  # what one thread reads in 5 ms: 10 GB/s was the least that was measured
# The share of the right answers that must stay right with float16.
_UNMOVED = 0.995
# The recall that nprobe must reach for the queries at build, so that other queries reach 0.98.
_RECALL = 0.99
# For k hits, inverted lists with so many times k vectors are visited.
_VISITED = 32
# Up to so many allowed rows, multiplying with their vectors is faster than FAISS's selector.
_GATHERED = 1000
_KINDS = (faiss.IndexFlatIP, faiss.IndexScalarQuantizer, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer)
_reading = Lock()  # FAISS has one limit for the whole process


def build_faiss(vectors: Vectors, path: Path, exact_bytes: int = EXACT_BYTES) -> StoreFigures:
    """Write an index over `(n, d)` unit vectors. Raises `OSError` on a full disk."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    visited = recall = questions = None
    if vectors.nbytes <= exact_bytes:
        kind, index = "Flat", _flat("Flat", vectors)
    else:
        ground_truth = GroundTruth.of(vectors)
        kind = "SQfp16" if ground_truth.recall_of_float16(vectors) >= _UNMOVED else "Flat"
        if kind == "SQfp16" and vectors.nbytes <= 2 * exact_bytes:
            index = _flat(kind, vectors)
        else:
            index, recall = _cells(kind, vectors, ground_truth)
            kind, visited, questions = f"IVF{index.nlist},{kind}", index.nprobe, len(ground_truth.questions)
    # `faiss.write_index` would lose the last bytes on a full disk without a word.
    written = write_synced(path, faiss.serialize_index(index).data)
    return StoreFigures(kind, written.bytes, visited, recall, questions)


def _flat(kind: str, vectors: Vectors) -> Any:
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return index


def _cells(kind: str, vectors: Vectors, ground_truth: GroundTruth) -> tuple[Any, float]:
    """Build inverted lists with an nprobe for the recall that is wanted, and measure their recall by searching them."""
    count, dimension = vectors.shape
    # So many that finding the nearest lists costs about as much as visiting them.
    middles = centres(vectors, min(count, round(4 * count**0.5)))
    own = nearest_centre(vectors, middles)
    index: Any = faiss.index_factory(dimension, f"IVF{len(middles)},{kind}", faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False  # the vectors themselves, not what is left without their centre
    index.quantizer.add(middles)
    index.train(vectors[:1])  # learns nothing, as the centres are there; FAISS asks for it
    index.add_core(count, faiss.swig_ptr(vectors), None, faiss.swig_ptr(own))
    index.nprobe, _ = reach(ground_truth.questions, middles, own[ground_truth.right], _RECALL)
    _, rows = index.search(ground_truth.questions, ground_truth.right.shape[1])
    return index, round(ground_truth.recall(vectors, rows), 4)


class FaissStore:
    """A `VectorStore` over a verified file, of `size` (count, dimension) if that is given. Wrong queries are stopped
    here: FAISS crashes or answers nonsense.

    Raises `SnapshotError` where the file is none that `build_faiss` writes. It takes no more memory than the file has
    bytes, whatever it says of itself.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        self._index: Any
        try:
            with _reading:
                faiss.set_deserialization_vector_byte_limit(max(path.stat().st_size, 1))  # of one array; 0: no limit
                # Mapped into memory, so that all workers share the vectors.
                self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            self._cells = self._index.nlist if isinstance(self._index, faiss.IndexIVF) else 0
            if type(self._index) not in _KINDS or size not in (None, (self.count, self.dimension)):
                raise SnapshotError(f"The index {path} is not of the kind, or not the size that its manifest states.")
            if self._cells:
                if self._index.invlists.compute_ntotal() != self.count:
                    raise SnapshotError(f"The index {path} lacks rows, or has too many.")
                self._index.make_direct_map()  # where each row lies
        except (OSError, RuntimeError, MemoryError) as error:
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
        if allowed is not None and count <= _GATHERED:
            return self._search_few(queries, k, np.flatnonzero(allowed))
        scores, rows = self._visit(queries, k, self._enough(k, count), allowed)
        short = rows[:, -1] < 0
        if short.any():  # small lists
            scores[short], rows[short] = self._visit(queries[short], k, self._cells, allowed)
        return scores, rows

    def _enough(self, k: int, count: int) -> int:
        """The nprobe for `k` of `count` rows: if few are allowed, as many more lists."""
        if not self._cells:
            return 0
        return min(
            self._cells, math.ceil(max(int(self._index.nprobe) * self.count, _VISITED * k * self._cells) / count)
        )

    def _visit(
        self, queries: Vectors, k: int, cells: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Search the `cells` nearest inverted lists of each query. If they hold fewer than `k` vectors, rows end with
        -1."""
        how: Any = faiss.SearchParametersIVF() if self._cells else faiss.SearchParameters()
        if self._cells:
            how.nprobe = cells
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
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
        found: Vectors = self._index.reconstruct_batch(np.arange(start, stop))
        return found
