"""Pictures -> vectors: our networks against the same weights as Keras runs them, and against the processor itself."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from bench.figure import Bar, Figure, interleaved
from bench.material import Material, Sizes, prepared
from bench.reference import Embed, made_up_weights, matrix_product, reference
from indexer.pipeline import BATCH
from shared.embedders import Embedder
from shared.embedders.registry import load
from shared.embedders.tensorflow_engine import tensorflow
from shared.images import Picture
from shared.vectors import Vectors, normalise

_BATCHES = (8, 16, 32, 64)
_VGG19_GFLOP, _SIDE = 35.2, 3072  # to `block4_pool`, an image; and of the matrices that it is compared with
_ALIKE = 0.99
# A vector computed in bfloat16, which keeps 8 bits, is at least this far from the exact one.
_BFLOAT16 = 1e-7


def _network(name: str, to_graph: float, to_loop: float, material: Material) -> Iterator[Figure]:
    weights = None if name == "efficientnet_lite2" else made_up_weights(name, material.work)
    network, (graph, loop) = load(name, [weights] if weights else []), reference(name, weights)
    pictures = material.pictures(material.sizes.pictures, network.spec.image_size)
    yield from network_figures(network, (graph, to_graph), (loop, to_loop), pictures, material.sizes)
    if name == "vgg19":
        yield _against_matrix_product(network, pictures, material.sizes)
    if name == "efficientnet_lite2" and material.photos:
        yield from _quality(network, graph, material)
    tensorflow().keras.backend.clear_session()


FIGURES = (
    partial(_network, "vgg19", 1.8, 4),
    partial(_network, "inception_resnet_v2", 1.8, 4),
    partial(_network, "efficientnet_lite2", 2.6, 13),
)


def network_figures(
    network: Embedder, graph: tuple[Embed, float], loop: tuple[Embed, float], pictures: Picture, sizes: Sizes
) -> Iterator[Figure]:
    """Ours against Keras's graph at its best batch, and against its loop, all in turns; each with its bar."""
    batch, few = _best_batch(graph[0], pictures), pictures[: sizes.loop_pictures]
    ours, plain, one_by_one = batched(network.embed, BATCH), batched(graph[0], batch), loop[0]
    far = max(_distance(ours(pictures), plain(pictures)), _distance(ours(few), one_by_one(few)))
    wrong = "" if far <= 1 - _ALIKE else f"a vector has cosine {1 - far:.4f} to the peer's"
    note = f"ours in {'bfloat16' if far > _BFLOAT16 else 'float32'}, its cosine to the peer's at least {1 - far:.4f}"
    mine, theirs, slow = interleaved(
        sizes.rounds, lambda: ours(pictures), lambda: plain(pictures), lambda: one_by_one(few)
    )
    name, rate = f"{network.spec.name}: embedding", len(pictures) / mine
    peer = f"Keras graph, batch {batch}"
    yield Figure(name, rate, "images/s", peer, len(pictures) / theirs, Bar(graph[1]), wrong, note)
    yield Figure(name, rate, "images/s", "Keras predict loop", len(few) / slow, Bar(loop[1]), wrong, note)


def batched(embed: Embed, batch: int) -> Embed:
    """The same, so many pictures at a time."""
    return lambda images: np.concatenate([embed(images[at : at + batch]) for at in range(0, len(images), batch)])


def _against_matrix_product(network: Embedder, pictures: Picture, sizes: Sizes) -> Figure:
    ours, product = batched(network.embed, BATCH), matrix_product(_SIDE)
    product()
    mine, theirs = interleaved(sizes.rounds, lambda: ours(pictures), product)
    speed, limit = len(pictures) * _VGG19_GFLOP / mine, 2 * _SIDE**3 / 1e9 / theirs
    return Figure("vgg19: arithmetic", speed, "GFLOP/s", f"bf16 matrix product, {_SIDE}", limit, Bar(0.75))


def _quality(network: Embedder, plain: Embed, material: Material) -> Iterator[Figure]:
    """Whether the fast path finds what the slow one finds: R@1 of photos, and how many of the first 10 are the same."""
    owners, wanted = ([shot.product_id for shot in shots] for shots in (material.packshots, material.photos))

    def answers(embed: Embed) -> list[list[int]]:
        """The ten rows that each photo finds, by brute force."""
        packshots, photos = (
            normalise(batched(embed, BATCH)(prepared([shot.path for shot in shots], network.spec.image_size)))
            for shots in (material.packshots, material.photos)
        )
        near: list[list[int]] = np.argsort(-(photos @ packshots.T), axis=1, kind="stable")[:, :10].tolist()
        return near

    fast, slow = answers(lambda images: network.embed(images)[:, : network.spec.plain_dimension]), answers(plain)
    right, before = (
        float(np.mean([owners[rows[0]] == product for rows, product in zip(found, wanted, strict=True)]))
        for found in (fast, slow)
    )
    same = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(fast, slow, strict=True)]))
    note = f"R@1 {right:.4f}, slow path {before:.4f}, {len(wanted)} photos of {material.name}"
    most, least = Bar(0.007, most=True, absolute=True), Bar(0.96, absolute=True)
    yield Figure("fast path: R@1 moved by", abs(right - before), peer="slow path", bar=most, note=note)
    yield Figure("fast path: overlap of first 10", same, peer="slow path", bar=least, note=note)


def _best_batch(graph: Embed, pictures: Picture) -> int:
    """The batch at which Keras is fastest."""
    batches = [batch for batch in _BATCHES if batch <= len(pictures)]
    runs = [partial(batched(graph, batch), pictures) for batch in batches]
    for run in runs:
        run()  # traces
    return batches[int(np.argmin(interleaved(2, *runs)))]


def _distance(ours: Vectors, theirs: Vectors) -> float:
    """1 - cosine of the vectors that differ most. Ours may have more values behind theirs."""
    mine, other = ours[:, : theirs.shape[1]].astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(other, axis=1)
    return float(1 - ((mine * other).sum(axis=1) / lengths).min())
