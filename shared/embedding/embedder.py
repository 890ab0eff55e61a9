"""Embedders: picture -> vector, behind one small protocol.

`registry.load` finds a network by name. Loading it, and asking for its `spec`, loads no engine: the network is built on
the first `embed`. So product -> products can be answered, and an unchanged catalog indexed again, without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.images.decode import Picture
from shared.images.views import BICUBIC, VIEWS, square, views, views_edge
from shared.vectors.unit import Vectors


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """The facts that a snapshot must know of the network that made it.

    `fingerprint` changes with the weights and with the preprocessing: equal fingerprints mean equal vectors. The first
    `plain_dimension` values are the vector; others behind them, its middle, are only for learning from. `views`: in
    how many views a photo asks; a network that costs more, and gains less by them, has fewer. `resample`: Pillow's
    number of the way to resize.
    """

    name: str
    dimension: int
    image_size: int
    fingerprint: str
    plain_dimension: int = 0
    views: int = len(VIEWS)
    resample: int = BICUBIC

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain_dimension", self.plain_dimension or self.dimension)

    def square(self, picture: Picture) -> Picture:
        """Prepare a picture as the network takes it."""
        return square(picture, self.image_size, self.resample)

    def seen(self, photo: Picture, several: bool) -> Picture:
        """Prepare a photo in its `views`, or in one: `(views, image_size, image_size, 3)`."""
        return views(photo, self.image_size, self.views if several else 1, self.resample)

    def edge(self, several: bool) -> int:
        """The pixels of a photo's longer edge that `seen` needs."""
        return views_edge(self.image_size, self.views if several else 1)


class Embedder(Protocol):
    """A network that runs. An embedder owns its preprocessing."""

    @property
    def spec(self) -> EmbedderSpec: ...

    def embed(self, images: Picture) -> Vectors:
        """Embed `uint8 (n, image_size, image_size, 3)` into `float32 (n, dimension)`, not normalised."""
        ...

    def files(self) -> Sequence[Path]:
        """The files that must travel with a snapshot, so that another host has this network. Empty if its code brings
        it."""
        ...
