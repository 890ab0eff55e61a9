"""The one door to TensorFlow, so that it is loaded late and quietly, and only where a network is needed."""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from shared.errors import ModelError
from shared.images import Picture
from shared.vectors import Vectors, normalise

_importing = Lock()
# What bfloat16 must keep on the probes.
_PROBES, _COSINE = 6, 0.99
_CHATTER = re.compile(rb"^([IW]0000 |WARNING: All log messages before absl|To enable the following instructions)")


def tensorflow() -> Any:
    """The TensorFlow module. Raises `ModelError` where it is not installed."""
    with _importing:
        if "tensorflow" not in sys.modules:
            with _hushed():
                _import()
    return sys.modules["tensorflow"]


def _import() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # must stand before the import
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ModelError(f"TensorFlow cannot be loaded ({error}). Install it: pip install tensorflow.") from error
    tf.get_logger().setLevel("ERROR")
    tf.constant(0)  # looks for devices, and tells of each


@contextmanager
def _hushed() -> Iterator[None]:
    """Hold back what is printed on stderr, then let it through without TensorFlow's notes on how it was built, which no
    setting of its own silences."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)


def compiled(network: Callable[[Any], Any], size: int) -> Callable[[Picture], Vectors]:
    """A frozen graph of `network` (float images in, vectors out), for batches of any length.

    It computes in bfloat16 where the processor has instructions for it and `_agree` finds that answers do not move.
    """
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])  # type: ignore[untyped-decorator]
    def graph(images: Any) -> Any:
        return network(tf.cast(images, tf.float32))

    frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    exact = _session(frozen, bfloat16=False)
    if not _has_bfloat16():
        return exact
    fast = _session(frozen, bfloat16=True)
    probes = _probes(size)
    return fast if _agree(exact(probes), fast(probes)) else exact


def _session(frozen: Any, *, bfloat16: bool) -> Callable[[Picture], Vectors]:
    """The graph in a session of its own: only there is bfloat16 a matter of one network and not of the process."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
    config = tf.compat.v1.ConfigProto()
    if bfloat16:
        rewrite = config.graph_options.rewrite_options
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
    call = tf.compat.v1.Session(graph=graph, config=config).make_callable(
        frozen.outputs[0].name, feed_list=[frozen.inputs[0].name]
    )
    return lambda images: np.asarray(call(images), np.float32)


def _has_bfloat16() -> bool:
    try:
        return bool(re.search(r"^flags\b.*\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        return False


def _probes(size: int) -> Picture:
    """Pictures of blots and noise: each of the second half is one of the first, a little moved and darker."""
    rng = np.random.default_rng(0)
    blots = np.full((_PROBES, 8, 8, 3), 255.0)
    blots[:, 1:7, 1:7] = rng.integers(0, 256, (_PROBES, 6, 6, 3))
    side = np.arange(size) * 8 // size
    pictures = blots[:, side][:, :, side] + rng.normal(0, 12, (_PROBES, size, size, 1))
    pictures = np.concatenate([pictures, np.roll(pictures, size // 40, axis=(1, 2)) * 0.9])
    return np.asarray(pictures.clip(0, 255), np.uint8)


def _agree(exact: Vectors, fast: Vectors) -> bool:
    """Whether pictures keep their vectors, and the moved ones find their originals, or what they found before."""
    exact, fast = normalise(exact), normalise(fast)
    before, after = ((asked[_PROBES:] @ exact[:_PROBES].T).argmax(axis=1) for asked in (exact, fast))
    return bool(((exact * fast).sum(axis=1) > _COSINE).all() and (before == after).all())


def fingerprint(recipe: str, *weights: Path) -> str:
    """A hash of what decides the vectors: a `recipe` that names network and preprocessing, and the weights files."""
    digest = hashlib.sha256(recipe.encode())
    for path in weights:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:32]
