"""Networks of the user's own as ONNX: a folder as Hugging Face exports one, or its `.onnx` file.

The folder holds `model.onnx` or `onnx/vision_model.onnx`, and `preprocessor_config.json`, which says how pictures are
prepared: size, resampling, crop, mean and deviation. The vector is the output `image_embeds`, `pooler_output` or
`last_hidden_state`: of a feature map its mean, of a transformer its class token, or the mean of its tokens where there
is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines import bfloat16
from shared.embedding.engines.openvino_engine import core, run, save
from shared.embedding.engines.runtime import fingerprint
from shared.embedding.family import Definition
from shared.errors import ModelError
from shared.images.views import VIEWS
from shared.vectors.unit import usable

_MODELS = ("model.onnx", "onnx/model.onnx", "onnx/vision_model.onnx", "vision_model.onnx")
_PREPROCESSOR = "preprocessor_config.json"
_OUTPUTS = ("image_embeds", "pooler_output", "last_hidden_state")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Steps from a picture on a white square of `size` pixels to the network's input: its middle `crop` pixels, times
    `factor`, less `mean`, by `deviation`. `resample` is Pillow's number of the way to resize."""

    size: int
    crop: int
    factor: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    resample: int = 3


class _Config(BaseModel):
    """The fields of `preprocessor_config.json` that matter."""

    model_config = ConfigDict(extra="ignore")

    size: int | dict[str, int] = 224
    crop_size: int | dict[str, int] | None = None
    do_resize: bool = True
    do_center_crop: bool = False
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: list[float] = [0.5, 0.5, 0.5]
    image_std: list[float] = [0.5, 0.5, 0.5]
    resample: int = 3


def read_preprocessing(path: Path) -> Preprocessing:
    """Read `preprocessor_config.json`. Raises `ModelError`."""
    try:
        config = _Config.model_validate_json(path.read_bytes())
        size = _edge(config.size)
        crop = _edge(config.crop_size) if config.do_center_crop and config.crop_size is not None else size
        if not config.do_resize:
            size = crop
        if not 16 <= crop <= size <= 1024 or len(config.image_mean) != 3 or len(config.image_std) != 3:
            raise ValueError(f"size {size}, crop {crop}, mean and deviation of {len(config.image_mean)} colours")
        if config.resample not in range(6) or min(config.image_std) <= 0:
            raise ValueError(f"resample {config.resample}, deviation {config.image_std}")
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}): it says how pictures are prepared for the network. "
            "Put the one that was exported with the model beside it."
        ) from error
    except (ValidationError, ValueError) as error:
        raise ModelError(
            f"{path} does not say how square pictures are prepared: {' '.join(str(error).split()).rstrip('.')}."
        ) from error
    return Preprocessing(
        size=size,
        crop=crop,
        factor=config.rescale_factor if config.do_rescale else 1.0,
        mean=tuple(config.image_mean) if config.do_normalize else (0.0, 0.0, 0.0),
        deviation=tuple(config.image_std) if config.do_normalize else (1.0, 1.0, 1.0),
        resample=config.resample,
    )


def _edge(size: int | dict[str, int]) -> int:
    """The side of the square. Raises `ValueError`."""
    if isinstance(size, int):
        return size
    sides = {size[name] for name in ("shortest_edge", "height", "width") if name in size}
    if len(sides) != 1:
        raise ValueError(f"its size is {size}, not one of a square")
    return sides.pop()


class OnnxNetwork:
    """A `Family` over an ONNX file. OpenVINO alone runs it."""

    spec: EmbedderSpec | None = None

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.name, self._model, config = _found(path)
        self._preprocessing = read_preprocessing(config)
        outside = (self._model.with_name(self._model.name + end) for end in ("_data", ".data"))
        self.weights = (self._model, config, *(file for file in outside if file.is_file()))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("onnx, white square 1", *self.weights)

    def define(self) -> Definition:
        raise ModelError(f"{self._model} is an ONNX file, which TensorFlow does not run. Leave out ENGINE=tensorflow.")

    def convert(self, folder: Path) -> None:
        model = _read(self._model)
        write_converted(model, self._model, self.name, self.fingerprint, self._preprocessing, folder)


def _found(path: Path) -> tuple[str, Path, Path]:
    """The network's name, its ONNX file, and the file that says how pictures are prepared. Raises `ModelError`."""
    if path.is_file():
        folder = path.parent.parent if path.parent.name == "onnx" else path.parent
        beside = path.parent / _PREPROCESSOR
        return path.stem, path, beside if beside.is_file() else folder / _PREPROCESSOR
    models = [path / name for name in _MODELS if (path / name).is_file()]
    if not models:
        raise ModelError(f"The folder {path} has none of {', '.join(_MODELS)}. Export the network as ONNX.")
    return path.resolve().name, models[0], path / _PREPROCESSOR


def _read(path: Path) -> Any:
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be read as ONNX: {' '.join(str(error).split())[-200:]}") from error


def write_converted(
    model: Any, path: Path, name: str, mark: str, preprocessing: Preprocessing, folder: Path, views: int = len(VIEWS)
) -> None:
    """Put the preparation of pictures before a model of OpenVINO's, choose its output, try it, and save it.

    `path` is named in errors. Raises `ModelError` where it is no network for pictures.
    """
    _check_input(model, path, preprocessing.crop)
    try:
        whole = _prepared(model, path, preprocessing)
        probes = bfloat16.probes(preprocessing.size)
        exact = run(whole, probes)
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be run: {' '.join(str(error).split())[-200:]}") from error
    if exact.ndim != 2 or not usable(exact).all() or not np.ptp(exact, axis=0).any():
        raise ModelError(f"{path} gives {exact.shape}, and not one finite vector for each picture.")
    spec = EmbedderSpec(name, exact.shape[1], preprocessing.size, mark, views=views, resample=preprocessing.resample)
    for small in (True, False):
        if bfloat16.agree(exact, run(core().read_model(save(whole, spec, folder, small=small)), probes)):
            return


def _check_input(model: Any, path: Path, side: int) -> None:
    names = [taken.any_name if taken.names else "?" for taken in model.inputs]
    if len(names) != 1:
        text = "; it has a text model in it" if "input_ids" in names else ""
        raise ModelError(
            f"{path} takes {len(names)} inputs ({', '.join(names)}){text}. Give the part that takes pictures alone, "
            "such as onnx/vision_model.onnx."
        )
    (taken,) = model.inputs
    shape = taken.partial_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        raise ModelError(f"{path} takes {names[0]} of shape {shape}, which is no picture: (n, 3, height, width).")
    wanted = (3, side, side)
    if not all(shape[1 + at].is_dynamic or shape[1 + at].get_length() == length for at, length in enumerate(wanted)):
        raise ModelError(f"{path} takes pictures of {shape}, but {_PREPROCESSOR} prepares (n, 3, {side}, {side}).")


def _prepared(model: Any, path: Path, how: Preprocessing) -> Any:
    """The model with its preprocessing: `uint8 (n, size, size, 3)` -> `float32 (n, d)`."""
    import openvino
    import openvino.opset13 as ops

    (taken,) = model.inputs
    picture = ops.parameter([-1, how.size, how.size, 3], np.uint8, name="images")
    x = ops.convert(picture, "f32")
    if how.crop != how.size:
        start = (how.size - how.crop) // 2
        ends = [np.array(values, np.int64) for values in ([start] * 2, [start + how.crop] * 2, [1, 1], [1, 2])]
        x = ops.slice(x, *ends)
    scale = how.factor / np.array(how.deviation, np.float32)
    shift = np.array(how.mean, np.float32) / np.array(how.deviation, np.float32)
    x = ops.subtract(ops.multiply(x, _per_colour(scale)), _per_colour(shift))
    x = ops.convert(ops.transpose(x, np.array([0, 3, 1, 2])), taken.element_type.get_type_name())
    model.reshape({0: [-1, 3, how.crop, how.crop]})
    for consumer in taken.get_target_inputs():
        consumer.replace_source_output(x.output(0))
    vector = _vector(_output(model, path), how.crop, path)
    return openvino.Model([ops.result(ops.convert(vector, "f32"))], [picture], "network")


def _per_colour(values: Sequence[float] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.float32).reshape(1, 1, 1, 3)


def _output(model: Any, path: Path) -> Any:
    """The output that holds the vector, by the names that exports give. Raises `ModelError`."""
    named = {name: output for output in model.outputs for name in output.names}
    for name in _OUTPUTS:
        if name in named:
            return named[name].node.input_value(0)
    raise ModelError(
        f"{path} gives {', '.join(sorted(named)) or 'outputs without names'}; one must be {', '.join(_OUTPUTS)}. "
        "Export the network without its classifier, for feature extraction."
    )


def _vector(output: Any, side: int, path: Path) -> Any:
    """Reduce the network's output to one vector for each picture."""
    import openvino.opset13 as ops

    shape = output.partial_shape
    if shape.rank.is_dynamic or len(shape) not in (2, 3, 4):
        raise ModelError(f"{path} gives {shape}, which is no vector, row of tokens or feature map.")
    if len(shape) == 4:
        return ops.reduce_mean(output, np.array([2, 3]))
    if len(shape) == 2:
        return output
    tokens = 0 if shape[1].is_dynamic else shape[1].get_length()
    if tokens and math.isqrt(tokens) ** 2 == tokens:
        return ops.reduce_mean(output, np.array([1]))
    return ops.gather(output, np.array(0), np.array(1))
