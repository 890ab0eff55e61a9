"""Make bfloat16, which keeps 8 bits of a number, safe to compute in: whether the processor has it, how weights are
rounded to it, and whether answers stay."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.images.decode import Picture
from shared.vectors.unit import Vectors, normalise

# The shares and cosines that must stay on the probes.
_PROBES, _COSINE = 6, 0.99
_FILTERED = {"Conv2D", "DepthwiseConv2dNative"}


def in_hardware() -> bool:
    """Tell whether this processor has instructions for it."""
    try:
        return bool(re.search(r"^flags\b.*\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        return False


def round_filters(graph: Any, tf: Any) -> None:
    """Round, in a frozen `GraphDef`, the weights of all filters that look at more than one pixel (see `rounded`)."""
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        if node.op in _FILTERED:
            weights = nodes[node.input[1]]
            while weights.op == "Identity":
                weights = nodes[weights.input[0]]
            tensor = weights.attr["value"].tensor
            kernel = tf.make_ndarray(tensor)
            if kernel.shape[0] * kernel.shape[1] > 1:
                tensor.CopyFrom(tf.make_tensor_proto(rounded(kernel)))


def rounded(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round a kernel `(height, width, in, out)` to bfloat16 values, whose sums over height and width are the exact
    ones' as nearly as can be: an even area, such as a packshot's background, keeps its value whatever its colour.

    Each weight becomes one of its two neighbours: the nearer, or the other where that brings the sum nearer, those
    tried first that change it most.
    """
    exact = np.ascontiguousarray(kernel, np.float32).reshape(kernel.shape[0] * kernel.shape[1], -1)
    inner = exact.view(np.uint32) & np.uint32(0xFFFF0000)
    low, high = inner.view(np.float32), (inner + np.uint32(0x10000)).view(np.float32)
    down = np.abs(exact - low) <= np.abs(high - exact)
    chosen, other = np.where(down, low, high), np.where(down, high, low)
    left, columns = (exact - chosen).sum(axis=0), np.arange(exact.shape[1])
    for taps in np.argsort(-np.abs(other - chosen), axis=0):
        change = other[taps, columns] - chosen[taps, columns]
        helps = np.abs(left - change) < np.abs(left)
        chosen[taps[helps], columns[helps]] = other[taps[helps], columns[helps]]
        left = np.where(helps, left - change, left)
    return chosen.reshape(kernel.shape)


def probes(size: int) -> Picture:
    """Make pictures of blots and noise: each of the second half is one of the first, a little moved and darker."""
    rng = np.random.default_rng(0)
    blots = np.full((_PROBES, 8, 8, 3), 255.0)
    blots[:, 1:7, 1:7] = rng.integers(0, 256, (_PROBES, 6, 6, 3))
    side = np.arange(size) * 8 // size
    pictures = blots[:, side][:, :, side] + rng.normal(0, 12, (_PROBES, size, size, 1))
    pictures = np.concatenate([pictures, np.roll(pictures, size // 40, axis=(1, 2)) * 0.9])
    return np.asarray(pictures.clip(0, 255), np.uint8)


def agree(exact: Vectors, fast: Vectors) -> bool:
    """Tell whether the probes keep their vectors, and the moved ones find their originals, or the ones of before."""
    exact, fast = normalise(exact), normalise(fast)
    before, after = ((asked[_PROBES:] @ exact[:_PROBES].T).argmax(axis=1) for asked in (exact, fast))
    return bool(((exact * fast).sum(axis=1) > _COSINE).all() and (before == after).all())
