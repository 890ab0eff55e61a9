"""What a search should return: how many hits, from where on, how alike, which products."""

from dataclasses import dataclass

from shared.errors import BadQuestion
from shared.index.filters import Filter

MOST = 1000


@dataclass(frozen=True, slots=True)
class SearchParams:
    """What is wanted of the answers: how many; whether variants of one thing count once; how much unlikeness among them
    is worth against likeness to the question (0 to 1); after how many they begin; how alike they are at least, by score
    and by verdict ("" for any); which products are none; which images count. Raises `BadQuestion`."""

    k: int = 10
    collapse: bool = False
    diversity: float = 0.0
    offset: int = 0
    min_score: float = -1.0
    verdict: str = ""
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
        if self.verdict not in ("", "similar", "variant", "same"):
            raise BadQuestion(f"verdict is {self.verdict!r:.80}; it must be same, variant or similar.")
        if len(self.exclude) > MOST:
            raise BadQuestion(f"exclude has {len(self.exclude):,} products; the limit is {MOST:,}.")

    @property
    def last(self) -> int:
        """How many answers must be known to give the wanted ones."""
        return self.offset + self.k

    @property
    def arranged(self) -> bool:
        """Whether answers stand in another order than that of their scores, or make each other superfluous."""
        return self.collapse or self.diversity > 0

    @property
    def plain(self) -> bool:
        """Whether nothing but `k` is wanted."""
        return not (
            self.collapse or self.diversity or self.offset or self.verdict or self.exclude or self.filter
        ) and self.min_score == -1.0  # fmt: skip


TEN = SearchParams()
