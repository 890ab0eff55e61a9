"""Verdicts: the meaning of a score on this catalog, same, variant, similar or none, by thresholds fitted on its own
products.

What is compared is a hit's evidence. Of a photo: a quarter of the hit's score, plus its lead over four others, those
that come after the three best others: these may be the same thing in other colours, or listed twice. Of a product: the
score, but that pixels decide what is the same. `indexer/quality/` fits the thresholds; the manifest holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

COMPARED = 8  # the best scores that evidence needs: a hit's, three that may be the same thing, four rivals
_RIVALS, _SCORE = 4, 0.25
# The evidence of a hit that shows the very picture of the product that is asked about: more than any score.
ONE_PICTURE = 2.0


class Verdict(StrEnum):
    """The verdict on a hit, the most alike first. If it is not known, None stands for it."""

    SAME = "same"
    VARIANT = "variant"
    SIMILAR = "similar"
    NONE = "none"


class QueryKind(StrEnum):
    """The kinds of queries. Verdicts are fitted for products and for photos, not for several examples together."""

    PRODUCT = "product"
    PHOTO = "photo"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The least evidence for each verdict. `false_alarms`: how often a query for something that is not in the catalog
    would reach it; `lost`: how often a right hit is called none; `fitted_on`: in words."""

    similar: float
    variant: float
    same: float
    false_alarms: Mapping[Verdict, float]
    lost: float
    fitted_on: str

    def of(self, evidence: float) -> Verdict:
        """The verdict for that evidence."""
        if evidence < self.similar:
            return Verdict.NONE
        if evidence >= self.variant:
            return Verdict.SAME if evidence >= self.same else Verdict.VARIANT
        return Verdict.SIMILAR

    def least(self, verdict: Verdict) -> float:
        """The least evidence for `same`, `variant` or `similar`."""
        return {Verdict.SAME: self.same, Verdict.VARIANT: self.variant, Verdict.SIMILAR: self.similar}[verdict]


def evidence(scores: NDArray[np.floating], best: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """The evidence `(n,)` for each of one query's hits by their scores, best first, `(n,)`.

    `best` are the `COMPARED` best scores of all products, where these are not among the hits.
    """
    wide = np.asarray(scores, np.float64)
    last = np.asarray(wide if best is None else best, np.float64)[:COMPARED][-_RIVALS - 1 :]
    if not len(last):
        return wide
    # One of the five is no rival: the hit itself, or else the best or the worst.
    others = (last.sum() - wide.clip(last[-1], last[0])) / max(1, len(last) - 1)
    return np.asarray(_SCORE * wide + wide - others)
