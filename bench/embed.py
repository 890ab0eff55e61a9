"""Benchmarks of embedding: our networks beside other ways to run the same weights, and beside the processor itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.figure import Bar, Figure, interleaved
from bench.material import Material, Sizes, decoded, prepared
from bench.peers import Peer, batched, keras, onnxruntime, openvino, precision, tensorflow_engine
from bench.reference import Embed, made_up_weights, matrix_product, reference
from indexer.ingest.pipeline import BATCH
from shared.embedding.embedder import Embedder
from shared.embedding.engines.tensorflow_engine import tensorflow
from shared.embedding.families.clip import Clip
from shared.embedding.registry import load
from shared.errors import ModelError
from shared.images.decode import Picture
from shared.vectors.unit import Vectors, normalise

_VGG19_GFLOP, _SIDE = 35.2, 3072  # to `block4_pool`, an image; and of the matrices that it is compared with
_ALIKE = 0.99
_LITE2, _CLIP = "efficientnet_lite2", "clip_vit_b16"


@dataclass(frozen=True, slots=True)
class Against:
    """A peer, and the bar for the ratio to it; `slow` peers embed only a few of the pictures."""

    peer: Peer
    bar: Bar | None = None
    slow: bool = False


def _network(name: str, to_graph: float, to_loop: float, material: Material) -> Iterator[Figure]:
    weights = None if name == _LITE2 else made_up_weights(name, material.work)
    network = load(name, [weights] if weights else [], material.runtime)
    pictures = material.pictures(material.sizes.pictures, network.spec.image_size)
    graph, loop = reference(name, weights)
    against = [
        Against(keras(graph, pictures), Bar(to_graph)),
        Against(Peer("Keras predict loop", loop), Bar(to_loop), slow=True),
        Against(openvino(network, pictures), Bar(0.95) if name == _LITE2 else None),
    ]
    if name == _LITE2:
        against.append(Against(tensorflow_engine(network, pictures), Bar(1.15)))
    yield from network_figures(network, against, pictures, material.sizes, f"ours in {precision(network)}")
    if name == "vgg19":
        yield _against_matrix_product(network, pictures, material.sizes)
    if name == _LITE2:
        yield from _views(network, material)
        yield from _quality(network, graph, material) if material.photos else ()
    tensorflow().keras.backend.clear_session()


def _clip(material: Material) -> Iterator[Figure]:
    """CLIP, where its weights are installed."""
    try:
        network, clip = load(_CLIP, runtime=material.runtime), Clip()
    except ModelError as error:
        yield Figure(f"{_CLIP}: embedding", wrong=str(error))
        return
    pictures = material.pictures(material.sizes.pictures, network.spec.image_size)
    against = [Against(openvino(network, pictures), Bar(0.95))]
    try:
        against.append(Against(onnxruntime(clip, pictures)))
    except ModelError as error:
        yield Figure(f"{_CLIP}: embedding", peer="onnxruntime", wrong=str(error))
    yield from network_figures(network, against, pictures, material.sizes, f"ours in {precision(network)}")


FIGURES = (
    partial(_network, "vgg19", 1.8, 4),
    partial(_network, "inception_resnet_v2", 1.8, 4),
    partial(_network, _LITE2, 2.6, 13),
    _clip,
)


def network_figures(
    network: Embedder, against: Sequence[Against], pictures: Picture, sizes: Sizes, how: str = ""
) -> Iterator[Figure]:
    """Measure ours against each peer, all in turns; `how` ours computes goes into the notes."""
    few, ours = pictures[: sizes.loop_pictures], batched(network.embed, BATCH)
    shown = [few if other.slow else pictures for other in against]
    far = [_distance(ours(some), other.peer.embed(some)) for other, some in zip(against, shown, strict=True)]
    runs = [partial(other.peer.embed, some) for other, some in zip(against, shown, strict=True)]
    mine, *theirs = interleaved(sizes.rounds, lambda: ours(pictures), *runs)
    for other, some, apart, taken in zip(against, shown, far, theirs, strict=True):
        wrong, note = _alike(apart, how)
        name, rate, peer = f"{network.spec.name}: embedding", len(pictures) / mine, other.peer.name
        yield Figure(name, rate, "images/s", peer, len(some) / taken, other.bar, wrong, note)


def _views(network: Embedder, material: Material) -> Iterator[Figure]:
    """A photo in all its views, as each query by photo embeds it."""
    spec = network.spec
    seen = spec.seen(decoded(material.questions[0].read_bytes(), spec.edge(several=True)), several=True)
    against = [
        Against(tensorflow_engine(network, seen), Bar(0.65, most=True)),
        Against(openvino(network, seen), Bar(1.05, most=True)),
    ]
    runs = [partial(other.peer.embed, seen) for other in against]
    far = [_distance(network.embed(seen), run()) for run in runs]
    mine, *theirs = interleaved(10 * material.sizes.rounds, partial(network.embed, seen), *runs)
    for other, apart, taken in zip(against, far, theirs, strict=True):
        wrong, note = _alike(apart)
        name = f"{spec.name}: a photo's {len(seen)} views"
        yield Figure(name, 1000 * mine, "ms", other.peer.name, 1000 * taken, other.bar, wrong, note)


def _alike(far: float, how: str = "") -> tuple[str, str]:
    """Say what is wrong with vectors so far from the peer's, and note the distance."""
    wrong = "" if far <= 1 - _ALIKE else f"a vector has cosine {1 - far:.4f} to the peer's"
    return wrong, ", ".join(filter(None, (how, f"cosine to the peer's at least {1 - far:.6f}")))


def _against_matrix_product(network: Embedder, pictures: Picture, sizes: Sizes) -> Figure:
    ours, (kind, product) = batched(network.embed, BATCH), matrix_product(_SIDE)
    product()
    mine, theirs = interleaved(sizes.rounds, lambda: ours(pictures), product)
    speed, limit = len(pictures) * _VGG19_GFLOP / mine, 2 * _SIDE**3 / 1e9 / theirs
    return Figure("vgg19: arithmetic", speed, "GFLOP/s", f"{kind} matrix product, {_SIDE}", limit, Bar(0.75))


def _quality(network: Embedder, plain: Embed, material: Material) -> Iterator[Figure]:
    """Compare the fast path with the slow one: R@1 of photos, and how many of the first 10 hits are the same."""
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


def _distance(ours: Vectors, theirs: Vectors) -> float:
    """1 - cosine of the vectors that differ most. Ours may have more values behind the peer's."""
    mine, other = ours[:, : theirs.shape[1]].astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(other, axis=1)
    return float(1 - ((mine * other).sum(axis=1) / lengths).min())
