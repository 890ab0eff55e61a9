"""Search parameters: how many hits, from where on, how alike they must be, and which products count."""

from dataclasses import dataclass

from shared.errors import BadQuestion
from shared.index.filters import Filter
from shared.snapshot.verdicts import Verdict

MOST = 1000


@dataclass(frozen=True, slots=True)
class SearchParams:
    """The parameters of a search. Raises `BadQuestion`.

    `k` hits after the first `offset`; only those with at least `min_score` and `verdict` (None: any), not of the
    products in `exclude`, by images that `filter` admits. `collapse`: variants of one thing count once. `diversity`, 0
    to 1: what unlikeness among the hits is worth against likeness to the query.
    """

    k: int = 10
    collapse: bool = False
    diversity: float = 0.0
    offset: int = 0
    min_score: float = -1.0
    verdict: Verdict | None = None
    exclude: frozenset[str] = frozenset()
    filter: Filter | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise BadQuestion(f"k is {self.k}; it must be a whole number from 1 to {MOST:,}.")
        if not 0 <= self.offset <= MOST - self.k:
            raise BadQuestion(
                f"offset is {self.offset}; it must be a whole number, with k from 0 to {MOST:,} together."
            )
        if not 0 <= self.diversity <= 1:
            raise BadQuestion(f"diversity is {self.diversity}; it must be a number from 0 to 1.")
        if not -1 <= self.min_score <= 1:
            raise BadQuestion(f"min_score is {self.min_score}; it must be a number from -1 to 1.")
        if self.verdict not in (None, Verdict.SIMILAR, Verdict.VARIANT, Verdict.SAME):
            raise BadQuestion(f"verdict is {self.verdict!r:.80}; it must be same, variant or similar.")
        if len(self.exclude) > MOST:
            raise BadQuestion(f"exclude has {len(self.exclude):,} products; the limit is {MOST:,}.")

    @property
    def last(self) -> int:
        """The number of hits that must be known to return the page."""
        return self.offset + self.k

    @property
    def rearranged(self) -> bool:
        """True if hits stand in another order than that of their scores, or make each other superfluous."""
        return self.collapse or self.diversity > 0

    @property
    def plain(self) -> bool:
        """True if only `k` is set."""
        return not (
            self.collapse or self.diversity or self.offset or self.verdict or self.exclude or self.filter
        ) and self.min_score == -1.0  # fmt: skip


TEN = SearchParams()
