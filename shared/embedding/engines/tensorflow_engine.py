"""TensorFlow: defines networks, freezes them, and runs them if OpenVINO does not. Loaded late and quietly."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from shared.embedding.engines import bfloat16
from shared.embedding.family import Definition
from shared.errors import ModelError
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

_importing = Lock()
_CHATTER = re.compile(rb"^([IW]0000 |WARNING: All log messages before absl|To enable the following instructions)")


def tensorflow() -> Any:
    """The TensorFlow module. Raises `ModelError` if it is not installed."""
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
        raise ModelError(
            f"TensorFlow cannot be loaded ({error}). Install it: pip install 'image-similarity[index]'."
        ) from error
    tf.get_logger().setLevel("ERROR")
    tf.constant(0)  # looks for devices, and tells of each


@contextmanager
def _hushed() -> Iterator[None]:
    """Hold back lines on stderr, then let them through without TensorFlow's notes on how it was built, which no setting
    of its own silences."""
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


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A `GraphDef` with its weights in it, and the names of its input (`uint8` images) and output (vectors)."""

    definition: Any
    ends: tuple[str, str]


def frozen(network: Definition) -> FrozenGraph:
    """Freeze the network into one graph, for batches of any length."""
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def graph(images: Any) -> Any:
        return network.call(tf.cast(images, tf.float32))

    wanted = [tf.TensorSpec((None, network.size, network.size, 3), tf.uint8)]
    traced = tf.function(graph, input_signature=wanted, autograph=False)  # which leaves files in TMPDIR
    constant = convert_variables_to_constants_v2(traced.get_concrete_function())
    return FrozenGraph(constant.graph.as_graph_def(), (constant.inputs[0].name, constant.outputs[0].name))


def compiled(network: Definition) -> Callable[[Picture], Vectors]:
    """Compile the network as TensorFlow runs it.

    It computes in bfloat16 where the processor has instructions for it and `agree` finds that answers do not move.
    """
    graph = frozen(network)
    exact = session(graph)
    if not bfloat16.in_hardware():
        return exact
    bfloat16.round_filters(graph.definition, tensorflow())
    fast, probes = session(graph, low=True), bfloat16.probes(network.size)
    return fast if bfloat16.agree(exact(probes), fast(probes)) else exact


def session(network: FrozenGraph, *, low: bool = False) -> Callable[[Picture], Vectors]:
    """Open the graph in a session of its own, in which alone `low` precision concerns one network only."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(network.definition, name="")
    config = tf.compat.v1.ConfigProto()
    if low:
        rewrite = config.graph_options.rewrite_options
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
    taken, given = network.ends
    call = tf.compat.v1.Session(graph=graph, config=config).make_callable(given, feed_list=[taken])
    return lambda images: np.asarray(call(images), np.float32)
