"""Choose and order candidates so that hits differ from each other."""

from collections.abc import Sequence

import numpy as np

from shared.vectors.unit import Vectors


def diversified(
    scores: Vectors, vectors: Vectors, k: int, fold: float, diversity: float, before: Sequence[int] = ()
) -> list[int]:
    """The places of up to `k` candidates, best first, after those of `before`; candidates are `(n,)` and `(n, d)`.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). What is as near as `fold` to one that was chosen
    is left out.
    """
    chosen = list(before)
    left = np.ones(len(scores), bool)
    nearest = np.zeros(len(scores), np.float32)
    if chosen:
        nearest = (vectors @ vectors[chosen].T).max(axis=1)
        left = nearest < fold
        left[chosen] = False
    while len(chosen) < k and left.any():
        worth = (1 - diversity) * scores - diversity * nearest
        best = int(np.where(left, worth, -np.inf).argmax())
        likeness = vectors @ vectors[best]
        nearest = np.maximum(nearest, likeness) if chosen else likeness
        chosen.append(best)
        left &= nearest < fold
        left[best] = False
    return chosen
