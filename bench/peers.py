"""Peers of embedding: other ways to embed with a network's weights, each with its own defaults.

OpenVINO and onnxruntime are called directly, with whole batches; TensorFlow is the engine that runs where OpenVINO
cannot be had. Each is asked at the batch at which it is fastest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.figure import interleaved
from bench.reference import Embed, reference
from shared.embedding.embedder import Embedder
from shared.embedding.engines.openvino_engine import core
from shared.embedding.engines.runtime import Engine, Runtime
from shared.embedding.families.clip import _PREPROCESSING, Clip, _in_numbers
from shared.embedding.registry import load
from shared.errors import ModelError
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

BATCHES, KERAS_BATCHES = (1, 4, 8, 16), (8, 16, 32, 64)
_ASKED = 32  # pictures, to find the fastest


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to embed, and its name."""

    name: str
    embed: Embed


def batched(embed: Embed, batch: int) -> Embed:
    """The same peer, so many pictures at a time."""
    return lambda images: np.concatenate([embed(images[at : at + batch]) for at in range(0, len(images), batch)])


def precision(network: Any) -> str:
    """The numbers in which our OpenVINO computes a network here: `f32`, or `bf16`."""
    compiled = network._network._requests[0].get_compiled_model()
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def openvino(network: Embedder, pictures: Picture) -> Peer:
    """A peer that calls OpenVINO directly on a converted network."""
    model, size = core().read_model(network.files()[0]), network.spec.image_size

    def compiled(batch: int) -> Embed:
        model.reshape([batch, size, size, 3])
        run = core().compile_model(model, "CPU")
        return lambda images: np.array(run(images)[0])

    return _at_best_batch("OpenVINO", compiled, pictures)


def tensorflow_engine(network: Embedder, pictures: Picture) -> Peer:
    """A network of that name as `ENGINE=tensorflow` runs it."""
    engine = load(network.spec.name, runtime=Runtime(engine=Engine.TENSORFLOW))
    return _at_best_batch("ENGINE=tensorflow", lambda _: engine.embed, pictures)


def keras(graph: Embed, pictures: Picture) -> Peer:
    """Keras's own graph of a network."""
    return _at_best_batch("Keras graph", lambda _: graph, pictures, KERAS_BATCHES)


def onnxruntime(clip: Clip, pictures: Picture) -> Peer:
    """CLIP by onnxruntime. Raises `ModelError` if that is not installed."""
    try:
        from onnxruntime import InferenceSession, SessionOptions
    except ImportError as error:
        raise ModelError(f"onnxruntime is not installed ({error}): pip install -e '.[bench]'.") from error
    quiet = SessionOptions()
    quiet.log_severity_level = 3  # else it tells of each weight that is not used
    session = InferenceSession(_in_numbers(clip._file), quiet, providers=["CPUExecutionProvider"])
    (taken,), how = session.get_inputs(), _PREPROCESSING
    scale = how.factor / np.array(how.deviation, np.float32)
    shift = np.array(how.mean, np.float32) / np.array(how.deviation, np.float32)

    def embed(images: Picture) -> Vectors:
        planes = np.ascontiguousarray((images * scale - shift).transpose(0, 3, 1, 2), np.float32)
        return np.asarray(session.run(["image_embeds"], {taken.name: planes})[0], np.float32)

    return _at_best_batch("onnxruntime", lambda _: embed, pictures)


def fastest(network: Embedder, pictures: Picture) -> Peer:
    """Embedding alone: the fastest peer that can run EfficientNet-Lite2."""
    few = pictures[:_ASKED]
    peers = [
        openvino(network, few),
        tensorflow_engine(network, few),
        keras(reference(network.spec.name, None)[0], few),
    ]
    taken = interleaved(3, *(partial(peer.embed, few) for peer in peers))
    return peers[int(np.argmin(taken))]


def _at_best_batch(name: str, at: Callable[[int], Embed], pictures: Picture, batches: Sequence[int] = BATCHES) -> Peer:
    """A peer at its fastest batch size, of those that divide the pictures, or of all at once."""
    sizes = [batch for batch in batches if len(pictures) % batch == 0] or [len(pictures)]
    peers = [Peer(f"{name}, batch {batch}", batched(at(batch), batch)) for batch in sizes]
    for peer, batch in zip(peers, sizes, strict=True):
        peer.embed(pictures[:batch])  # traces, and takes its memory
    taken = interleaved(2, *(partial(peer.embed, pictures[: max(sizes)]) for peer in peers))
    return peers[int(np.argmin(taken))]
