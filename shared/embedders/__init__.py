"""Picture -> vector: the networks, behind one small protocol.

`registry.load` finds a network by name. Loading it, and asking for its `spec`, loads no engine: the network is built on
the first `embed`. So product -> products can be answered, and an unchanged catalog indexed again, without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.images import Picture
from shared.vectors import Vectors


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What a snapshot must know of the network that made it.

    `fingerprint` changes with the weights and with the preprocessing: equal fingerprints mean equal vectors. The first
    `plain_dimension` values are the vector; others behind them, its middle, are only for learning from.
    """

    name: str
    dimension: int
    image_size: int
    fingerprint: str
    plain_dimension: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain_dimension", self.plain_dimension or self.dimension)


class Embedder(Protocol):
    """`spec` and `embed` are all a new network needs. An embedder owns its preprocessing."""

    @property
    def spec(self) -> EmbedderSpec: ...

    def embed(self, images: Picture) -> Vectors:
        """`uint8 (n, image_size, image_size, 3)` -> `float32 (n, dimension)`, not normalised."""
        ...

    def files(self) -> Sequence[Path]:
        """Files that must travel with a snapshot, so that another host has this network. Empty where its code does."""
        ...
