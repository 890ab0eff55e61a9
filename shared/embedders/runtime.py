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

from shared.embedders import bfloat16
from shared.errors import ModelError
from shared.images import Picture
from shared.vectors import Vectors

_importing = Lock()
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

    It computes in bfloat16 where the processor has instructions for it and `agree` finds that answers do not move.
    """
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def graph(images: Any) -> Any:
        return network(tf.cast(images, tf.float32))

    wanted = [tf.TensorSpec((None, size, size, 3), tf.uint8)]
    traced = tf.function(graph, input_signature=wanted, autograph=False)  # which leaves files in TMPDIR
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    definition = frozen.graph.as_graph_def()
    ends = frozen.inputs[0].name, frozen.outputs[0].name
    exact = _session(definition, ends, low=False)
    if not bfloat16.in_hardware():
        return exact
    bfloat16.round_filters(definition, tf)
    fast, probes = _session(definition, ends, low=True), bfloat16.probes(size)
    return fast if bfloat16.agree(exact(probes), fast(probes)) else exact


def _session(definition: Any, ends: tuple[str, str], *, low: bool) -> Callable[[Picture], Vectors]:
    """The graph in a session of its own: only there is `low` precision a matter of one network and not of the process.
    `ends` are the names of what goes in and comes out."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
    config = tf.compat.v1.ConfigProto()
    if low:
        rewrite = config.graph_options.rewrite_options
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
    call = tf.compat.v1.Session(graph=graph, config=config).make_callable(ends[1], feed_list=[ends[0]])
    return lambda images: np.asarray(call(images), np.float32)


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
