"""What a benchmark runs on, and how much of it."""

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. `capped` makes a quick try of it."""

    rounds: int = 5
    pictures: int = 64  # embedded in a round
    loop_pictures: int = 8  # the same one by one, which is slow
    images: int = 2720  # indexed
    repeats: int = 10  # times as many for the larger run, whose memory is measured
    vectors: int = 1_000_000
    dimension: int = 256
    queries: int = 200
    few: int = 10_000  # products in a snapshot
    many: int = 1_000_000
    startup: int = 100_000
    seconds: int = 4  # of load in a round

    def capped(self, limit: int) -> "Sizes":
        """Nothing larger than this, three rounds, and seconds of one."""
        smaller = {f.name: min(getattr(self, f.name), limit) for f in fields(self)}
        return Sizes(**{**smaller, "dimension": self.dimension, "rounds": min(3, limit), "seconds": 1})


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """`weights`: of VGG19 and of InceptionResNetV2; made up where not given, for speed does not depend on them."""

    data: Path
    dataset: Path | None
    weights: tuple[Path, ...]
    sizes: Sizes

    @property
    def work(self) -> Path:
        """Where a benchmark keeps what it makes, to be found again."""
        return self.data / "bench" / "work"
