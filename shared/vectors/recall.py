"""Measure the recall of an approximate search on the vectors themselves. Pure numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.vectors.top_k import best_products
from shared.vectors.unit import Vectors, normalise

DEPTH, QUESTIONS = 10, 500
_KNOWN = 3 * DEPTH
# As far from its image as another image of the same thing often is; on several kinds of vectors such questions found
# as much as vectors that were held out, or a little less.
_COSINE = 0.8
_BLOCK_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Queries `(q, d)` over unit vectors `(n, d)`, and the rows and scores of their exact first 30 hits `(q, 30)`,
    fewer if there are fewer vectors, best first. The first `DEPTH` of them are the right ones."""

    questions: Vectors
    rows: NDArray[np.int64]
    scores: Vectors

    @classmethod
    def of(cls, vectors: Vectors, count: int = QUESTIONS) -> "GroundTruth":
        """Query by up to `count` of the vectors, the same ones each time, after noise has moved them."""
        rng = np.random.default_rng(1)  # not the seed from which `kmeans.centres` starts
        images = vectors[np.sort(rng.permutation(len(vectors))[:count])]
        noise = normalise(rng.normal(size=images.shape).astype(np.float32))
        questions = normalise(_COSINE * images + np.float32((1 - _COSINE**2) ** 0.5) * noise)
        known, owners = min(_KNOWN, len(vectors)), np.arange(len(vectors))
        block = max(1, _BLOCK_BYTES // (4 * len(vectors)))
        found = [
            best_products(asked @ vectors.T, owners, np.full(len(asked), -1), known, known)
            for asked in (questions[first : first + block] for first in range(0, len(questions), block))
        ]
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(questions, rows, scores)

    @property
    def right(self) -> NDArray[np.int64]:
        """The rows of the right hits `(q, depth)`."""
        return self.rows[:, :DEPTH]

    def recall(self, vectors: Vectors, rows: NDArray[np.int64]) -> float:
        """The share of right ones among other hits `(q, depth)`. A tie with the last right hit is right."""
        asked, at = np.nonzero(rows >= 0)
        near = vectors[rows[asked, at]]
        floor = self.scores[asked, rows.shape[1] - 1] - 2e-6
        return float((np.einsum("ij,ij->i", self.questions[asked], near) >= floor).sum() / rows.size)

    def recall_of_float16(self, vectors: Vectors) -> float:
        """The recall if the best of the known hits are chosen by their vectors in float16."""
        half = vectors[self.rows].astype(np.float16).astype(np.float32)
        order = np.argsort(-np.einsum("qd,qkd->qk", self.questions, half), axis=1, kind="stable")
        return self.recall(vectors, np.take_along_axis(self.rows, order, axis=1)[:, :DEPTH])
