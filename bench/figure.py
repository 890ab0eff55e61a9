"""One figure of a benchmark: ours, a peer's, the bar that was set, and whether the answers were right as well.

A benchmark never asserts speed. It says what it saw; a figure whose answers were wrong is void, however fast.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """What was asked for: at least, or at most, this much of the ratio of ours to the peer's, or of ours itself."""

    value: float
    most: bool = False
    absolute: bool = False

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'at least'} {self.value:g}{'' if self.absolute else ' x'}"


@dataclass(frozen=True, slots=True)
class Figure:
    """`wrong` says in what the answers were wrong, `skipped` why there is no figure; both are "" where all is well."""

    name: str
    ours: float | None = None
    unit: str = ""
    peer: str = ""
    theirs: float | None = None
    bar: Bar | None = None
    wrong: str = ""
    skipped: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def measured(self) -> float | None:
        """What the bar is about."""
        return self.ours if self.bar and self.bar.absolute else self.ratio

    @property
    def status(self) -> str:
        """`reached`, `not reached`, `seen` where no bar was set, `void` or `skipped`."""
        if self.skipped:
            return "skipped"
        if self.wrong:
            return "void"
        if self.bar is None or self.measured is None:
            return "seen"
        within = self.measured <= self.bar.value if self.bar.most else self.measured >= self.bar.value
        return "reached" if within else "not reached"

    def to_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "ratio": self.ratio, "status": self.status}


def interleaved(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """The median seconds of each, measured in turns, so that whatever else the machine does falls on all of them."""
    return medians(rounds, *(timed(run) for run in runs))


def medians(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of what each measures, taken in turns, every other round in the opposite order."""
    seen: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        for at in range(len(measures))[:: -1 if number % 2 else 1]:
            seen[at].append(measures[at]())
    return [median(values) for values in seen]


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """A measure of the seconds that it takes."""

    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds
