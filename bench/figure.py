"""One figure of a benchmark: ours, a peer's, the bar, and whether the answers were right as well.

A benchmark never asserts speed. It says what it saw; a figure whose answers were wrong is void, however fast.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a figure: at least, or at most, this ratio of ours to the peer's, or this value of ours."""

    value: float
    most: bool = False
    absolute: bool = False

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'at least'} {self.value:g}{'' if self.absolute else ' x'}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure. `wrong` says how the answers were wrong, or why there is no figure."""

    name: str
    ours: float | None = None
    unit: str = ""
    peer: str = ""
    theirs: float | None = None
    bar: Bar | None = None
    wrong: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The ratio of ours to the peer's."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def reach(self) -> float | None:
        """The ratio of the measured value to the bar: 1 if the bar is just reached, more if it is passed."""
        seen = self.ours if self.bar and self.bar.absolute else self.ratio
        if self.bar is None or seen is None or self.wrong:
            return None
        if not self.bar.most:
            return seen / self.bar.value
        return self.bar.value / seen if seen else float("inf")

    @property
    def status(self) -> str:
        """`reached`, `not reached`, `seen` where no bar was set, or `void`."""
        if self.wrong:
            return "void"
        return "seen" if self.reach is None else "reached" if self.reach >= 1 else "not reached"


def interleaved(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Measure the median seconds of each in turns, every other round in the opposite order, so that the machine's other
    work falls on all of them."""
    seen: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        for at in range(len(runs))[:: -1 if number % 2 else 1]:
            seen[at].append(seconds(runs[at]))
    return [median(values) for values in seen]


def seconds(run: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
