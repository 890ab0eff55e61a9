"""OpenVINO: runs converted networks on the processor.

A converted network is a file in OpenVINO's format (`network.xml`, weights in `network.bin`) that takes
`uint8 (n, size, size, 3)` and gives `float32 (n, d)`. Its own notes say which network it is (`EmbedderSpec`), and
whether bfloat16 keeps its answers.
"""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines import bfloat16
from shared.embedding.engines.runtime import Runtime
from shared.errors import ModelError
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

FILES = ("network.xml", "network.bin")
_SPEC, _BFLOAT16 = ["similarity", "spec"], ["similarity", "bfloat16"]
_YES, _NO = "yes", "no"


@cache
def core() -> Any:
    """OpenVINO's core. Raises `ModelError` if it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise ModelError(f"OpenVINO cannot be loaded ({error}). Install it: pip install openvino.") from error
    return openvino.Core()


class ConvertedNetwork:
    """An `Embedder` over a converted network. Safe to use from many threads, which take turns.

    Pictures are embedded one by one, `Runtime.threads` of them at a time, each by a thread of its own: quicker than
    a batch by all threads together, with a quarter of the memory, and a vector cannot depend on its batch.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self._path = path
        try:
            model = core().read_model(path)
            if not model.has_rt_info(_SPEC):
                raise ModelError(f"{path} is not a network that this program converted.")
            self.spec = EmbedderSpec(**json.loads(model.get_rt_info(_SPEC).value))
            size = self.spec.image_size
            model.reshape([1, size, size, 3])
        except (RuntimeError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(f"The converted network {path} cannot be read: {reason}") from error
        noted = model.get_rt_info(_BFLOAT16).value if model.has_rt_info(_BFLOAT16) else ""
        low = _has_bfloat16() and (noted == _YES or (not noted and _agrees(model, size)))
        self._requests = _requests(model, low, runtime.threads)
        self._one_at_a_time = Lock()

    def embed(self, images: Picture) -> Vectors:
        """Embed `uint8 (n, image_size, image_size, 3)` into `float32 (n, dimension)`, not normalised."""
        vectors = np.empty((len(images), self.spec.dimension), np.float32)

        def keep(request: Any, row: int) -> None:
            vectors[row] = request.get_output_tensor(0).data[0]

        with self._one_at_a_time:
            self._requests.set_callback(keep)
            for row in range(len(images)):
                self._requests.start_async({0: images[row : row + 1]}, row)
            self._requests.wait_all()
        return vectors

    def files(self) -> tuple[Path, ...]:
        return self._path, self._path.with_suffix(".bin")


def save(model: Any, spec: EmbedderSpec, folder: Path, *, small: bool) -> Path:
    """Write a model of OpenVINO's with its notes; `small`: weights in half precision. Returns the path of the xml."""
    import openvino

    if _has_bfloat16():
        model.set_rt_info(_YES if _agrees(model, spec.image_size) else _NO, _BFLOAT16)
    model.set_rt_info(json.dumps(asdict(spec)), _SPEC)
    path = folder / FILES[0]
    openvino.save_model(model, path, compress_to_fp16=small)
    return path


def run(model: Any, images: Picture, *, low: bool = False) -> Vectors:
    """Compute the vectors of a model of OpenVINO's once: exactly, or in `low` precision."""
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if low else "f32"}
    compiled = core().compile_model(model, "CPU", hint)
    return np.concatenate([compiled(image[None])[0] for image in images])


def _has_bfloat16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _agrees(model: Any, size: int) -> bool:
    probes = bfloat16.probes(size)
    return bfloat16.agree(run(model, probes), run(model, probes, low=True))


def _requests(model: Any, low: bool, threads: int) -> Any:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": False,  # every process would take the same cores
    }
    return openvino.AsyncInferQueue(core().compile_model(model, "CPU", settings), threads)
