"""What a score means on this catalog: same, variant, similar or none, by thresholds fitted on its own products.

What is compared is an answer's evidence: its score, plus half of its lead over the best other product (all but the
first have a negative one). Products that compete make each other less believable. `indexer/calibration.py` fits the
thresholds; the manifest holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError

_LEAD = 0.5


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The least evidence for each verdict. `false_alarms`: how often a question about something that is not in the
    catalog would reach it; `lost`: how often a right answer is called none; `fitted_on`: in words."""

    similar: float
    variant: float
    same: float
    false_alarms: Mapping[str, float]
    lost: float
    fitted_on: str

    def of(self, evidence: float) -> str:
        """`same`, `variant`, `similar` or `none`."""
        if evidence < self.similar:
            return "none"
        return "same" if evidence >= self.same else "variant" if evidence >= self.variant else "similar"

    def least(self, verdict: str) -> float:
        """The least evidence for `same`, `variant` or `similar`."""
        return {"same": self.same, "variant": self.variant, "similar": self.similar}[verdict]

    @classmethod
    def from_manifest(cls, quality: Mapping[str, Any]) -> dict[str, "Verdicts"]:
        """Question ("photo" or "product") -> its verdicts; empty where none were fitted. Raises `SnapshotError`."""
        try:
            return {question: cls(**fields) for question, fields in quality.get("verdicts", {}).items()}
        except TypeError as error:
            raise SnapshotError(f"The manifest's verdicts are not readable: {error}") from error


def evidence(scores: NDArray[np.floating], best: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Scores of one question's answers, best first, `(n,)` -> the evidence for each `(n,)`.

    `best` are the two best scores of all products, where these are not among the answers.
    """
    wide = np.asarray(scores, np.float64)
    rivals = wide if best is None else np.asarray(best, np.float64)
    if len(rivals) < 2:
        return wide
    return np.asarray(wide + _LEAD * (wide - np.where(wide >= rivals[0], rivals[1], rivals[0])))
