"""Picture -> vector: the networks, behind one small protocol, and the registry that names them.

Importing this package, and asking an embedder for its `spec`, loads no TensorFlow: the network is built on the first
`embed`. So product -> products can be answered, and an unchanged catalog indexed again, without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.errors import ModelError
from shared.images import VIEWS, Picture
from shared.vectors import Vectors


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What a snapshot must know of the network that made it.

    `fingerprint` changes with the weights and with the preprocessing: equal fingerprints mean equal vectors. The first
    `plain_dimension` values are the vector; others behind them, its middle, are only for learning from. `views`: in
    how many views a photo asks; a network that costs more, and gains less by them, has fewer.
    """

    name: str
    dimension: int
    image_size: int
    fingerprint: str
    plain_dimension: int = 0
    views: int = len(VIEWS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain_dimension", self.plain_dimension or self.dimension)


class Embedder(Protocol):
    """`spec` and `embed` are all a new network needs. An embedder owns its preprocessing."""

    @property
    def spec(self) -> EmbedderSpec: ...

    @property
    def weights(self) -> tuple[Path, ...]:
        """Files that must travel with a snapshot. Empty where a Python package brings the weights."""
        ...

    def embed(self, images: Picture) -> Vectors:
        """`uint8 (n, image_size, image_size, 3)` -> `float32 (n, dimension)`, not normalised."""
        ...


def _lite(variant: str) -> Callable[[Sequence[Path]], Embedder]:
    def build(weights: Sequence[Path]) -> Embedder:
        from shared.embedders.efficientnet_lite import EfficientNetLite

        return EfficientNetLite(variant, *weights)

    return build


def _application(name: str) -> Callable[[Sequence[Path]], Embedder]:
    def build(weights: Sequence[Path]) -> Embedder:
        from shared.embedders.applications import APPLICATIONS, KerasApplication

        return KerasApplication(APPLICATIONS[name], *weights)

    return build


def _pair(first: str, second: str) -> Callable[[Sequence[Path]], Embedder]:
    def build(weights: Sequence[Path]) -> Embedder:
        from shared.embedders.fused import Fused

        if len(weights) not in (0, 2):
            raise ModelError(f"{first}+{second} takes two weights files, in this order; {len(weights)} were given.")
        return Fused(load(first, weights[:1]), load(second, weights[1:]))

    return build


def _saved(weights: Sequence[Path]) -> Embedder:
    from shared.embedders.saved import SavedModel

    return SavedModel(*weights)


def _grid(weights: Sequence[Path]) -> Embedder:
    from shared.embedders.colour_grid import ColourGrid

    return ColourGrid()


_REGISTRY: dict[str, tuple[Callable[[Sequence[Path]], Embedder], int]] = {
    # name: (how to build it, how many weights files it takes at the most)
    "efficientnet_lite2": (_lite("efficientnet_lite2"), 1),
    "efficientnet_lite0": (_lite("efficientnet_lite0"), 1),
    "vgg19": (_application("vgg19"), 1),
    "inception_resnet_v2": (_application("inception_resnet_v2"), 1),
    "vgg19+inception_resnet_v2": (_pair("vgg19", "inception_resnet_v2"), 2),
    "colour_grid": (_grid, 0),
    "saved": (_saved, 1),
}
NAMES = tuple(name for name in _REGISTRY if name != "saved")


def load(model: str, weights: Sequence[Path] = ()) -> Embedder:
    """The embedder of that name, or of the saved Keras model at that path.

    Raises `ModelError` where the name is unknown or its weights cannot be had.
    """
    if model not in _REGISTRY and Path(model).suffix in (".keras", ".h5"):
        model, weights = "saved", (Path(model),)
    if model not in _REGISTRY:
        raise ModelError(f"There is no model {model!r}. Use one of {', '.join(NAMES)}, or the path of a .keras file.")
    build, most = _REGISTRY[model]
    if len(weights) > most:
        raise ModelError(f"The model {model} takes at most {most} weights files; {len(weights)} were given.")
    for path in weights:
        if not path.is_file():
            raise ModelError(f"There is no weights file {path}. Check WEIGHTS= (or MODEL=).")
    return build(weights)
