"""Pictures -> vectors: our networks against the same weights as Keras runs them, and against the processor itself."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.config import BenchConfig, Sizes
from bench.figure import Bar, Figure, interleaved
from bench.material import Material, Shot, material, prepared
from bench.reference import Embed, Reference, made_up_weights, matrix_product, reference
from shared.embedders import Embedder, load
from shared.embedders.runtime import tensorflow
from shared.images import Picture
from shared.vectors import Vectors, normalise

_BATCH = 16
_BATCHES = (8, 16, 32)
# To `block4_pool`, an image.
_VGG19_GFLOP = 35.2
_SIDE = 3072
_ALIKE = 0.99
_BARS = {"vgg19": (1.8, 4), "inception_resnet_v2": (1.8, 4), "efficientnet_lite2": (2.6, 13)}


def figures(config: BenchConfig) -> Iterator[Figure]:
    """All figures of embedding."""
    shown = material(config)
    for name in _BARS:
        try:
            yield from _network(name, shown, config)
        except Exception as error:  # one network that fails must not hide the figures of the others
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            yield Figure(f"{name}: embedding", wrong=f"it does not run ({reason})")
        tensorflow().keras.backend.clear_session()


def _network(name: str, shown: Material, config: BenchConfig) -> Iterator[Figure]:
    weights = None if name == "efficientnet_lite2" else _weights(name, config)
    network = load(name, [weights] if weights else [])
    keras = reference(name, weights)
    pictures = shown.pictures(config.sizes.pictures, network.spec.image_size)
    yield from network_figures(name, network, keras, pictures, config.sizes)
    if name == "vgg19":
        yield _against_matrix_product(network, pictures, config.sizes)
    if name == "efficientnet_lite2":
        yield from quality_figures(network, keras.graph, shown)


def network_figures(
    name: str, network: Embedder, keras: Reference, pictures: Picture, sizes: Sizes
) -> Iterator[Figure]:
    """Ours against Keras's graph at its best batch, and against its loop, all in turns."""
    batch = _best_batch(keras.graph, pictures)
    few = pictures[: sizes.loop_pictures]
    graph, loop = _batched(keras.graph, batch), keras.loop
    ours = _batched(network.embed, _BATCH)
    wrong = _differs(ours(pictures), graph(pictures)) or _differs(ours(few), loop(few))
    mine, theirs, slow = interleaved(sizes.rounds, lambda: ours(pictures), lambda: graph(pictures), lambda: loop(few))
    rate = len(pictures) / mine
    to_graph, to_loop = _BARS.get(name, (1, 1))
    peer = f"Keras graph, batch {batch}"
    yield Figure(f"{name}: embedding", rate, "images/s", peer, len(pictures) / theirs, Bar(to_graph), wrong)
    yield Figure(f"{name}: embedding", rate, "images/s", "Keras predict loop", len(few) / slow, Bar(to_loop), wrong)


def quality_figures(network: Embedder, plain: Embed, shown: Material) -> Iterator[Figure]:
    """Whether the fast path finds what the slow one finds: R@1 of photos, and how many of the first 10 are the same."""
    if not shown.photos:
        yield Figure("fast path: R@1", skipped=f"{shown.name} has no photos whose product is known")
        return
    size = network.spec.image_size
    fast, slow = (
        _Answers.of(embed, shown, size, network.spec.plain_dimension)
        for embed in (_batched(network.embed, _BATCH), _batched(plain, _BATCH))
    )
    same = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(fast.rows, slow.rows, strict=True)])
    moved = f"R@1 {fast.right:.4f}, slow path {slow.right:.4f}, {len(shown.photos)} photos of {shown.name}"
    worst = Bar(0.007, most=True, absolute=True)
    yield Figure("fast path: R@1 moved by", abs(fast.right - slow.right), "", bar=worst, note=moved)
    yield Figure("fast path: overlap of first 10", float(same), "", bar=Bar(0.96, absolute=True), note=moved)


class _Answers:
    """The ten rows that each photo finds, by brute force, and the share of photos whose product comes first."""

    def __init__(self, rows: np.ndarray, right: float) -> None:
        self.rows, self.right = rows, right

    @classmethod
    def of(cls, embed: Embed, shown: Material, size: int, dimension: int) -> "_Answers":
        catalog, photos = (_vectors(embed, shots, size)[:, :dimension] for shots in (shown.catalog, shown.photos))
        rows = np.argsort(-(normalise(photos) @ normalise(catalog).T), axis=1, kind="stable")[:, :10]
        right = [
            shown.catalog[row].product_id == photo.product_id
            for row, photo in zip(rows[:, 0].tolist(), shown.photos, strict=True)
        ]
        return cls(rows, float(np.mean(right)))


def _vectors(embed: Embed, shots: Sequence[Shot], size: int) -> Vectors:
    blocks = [shots[at : at + 8 * _BATCH] for at in range(0, len(shots), 8 * _BATCH)]
    return np.concatenate([embed(np.stack([prepared(shot.path, size) for shot in block])) for block in blocks])


def _against_matrix_product(network: Embedder, pictures: Picture, sizes: Sizes) -> Figure:
    ours, product = _batched(network.embed, _BATCH), matrix_product(_SIDE)
    product()
    mine, theirs = interleaved(sizes.rounds, lambda: ours(pictures), product)
    speed, limit = len(pictures) * _VGG19_GFLOP / mine, 2 * _SIDE**3 / 1e9 / theirs
    peer = f"bf16 matrix product, {_SIDE}"
    return Figure("vgg19: arithmetic", speed, "GFLOP/s", peer, limit, Bar(0.75))


def _best_batch(graph: Embed, pictures: Picture) -> int:
    """The batch at which Keras is fastest."""
    batches = [batch for batch in _BATCHES if batch <= len(pictures)] or [len(pictures)]
    runs = [_batched(graph, batch) for batch in batches]
    for run in runs:
        run(pictures)  # traces
    seconds = interleaved(2, *(partial(run, pictures) for run in runs))
    return batches[int(np.argmin(seconds))]


def _batched(embed: Embed, batch: int) -> Embed:
    return lambda images: np.concatenate([embed(images[at : at + batch]) for at in range(0, len(images), batch)])


def _differs(ours: Vectors, theirs: Vectors) -> str:
    """In what the vectors differ, where they do. Ours may have more values behind theirs."""
    cosines = (normalise(ours[:, : theirs.shape[1]]) * normalise(theirs)).sum(axis=1)
    worst = float(cosines.min())
    return "" if worst >= _ALIKE else f"a vector has cosine {worst:.4f} to the peer's"


def _weights(name: str, config: BenchConfig) -> Path:
    """The file given, or a made-up one."""
    given = dict(zip(("vgg19", "inception_resnet_v2"), config.weights, strict=False))
    return given.get(name) or made_up_weights(name, config.work)
