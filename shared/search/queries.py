"""What asks: a product, a photo, or several of both, liked and unliked; and why an answer is one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.embedding.embedder import Embedder
from shared.errors import BadPicture, BadQuestion
from shared.images.crop import Crop
from shared.images.decode import Picture, decode
from shared.images.views import VIEWS
from shared.index.neighbour_table import mean_directions
from shared.index.product_table import ProductTable
from shared.index.vector_store import VectorStore
from shared.refusals import Kind, Refusal
from shared.search.hits import Hit
from shared.snapshot.reader import Snapshot
from shared.vectors.projection import Projection
from shared.vectors.top_k import DIGITS
from shared.vectors.unit import Vectors, normalise, usable

GAMMA = 0.3
MOST = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """What an example consists of, by name: a product's images, a photo's views; each as a unit vector `(n, d)`."""

    names: Sequence[str]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Example:
    """A unit vector `(1, d)` that asks, and what it is made of. `question` says whose verdicts are meant: those of a
    `product`, of a `photo`, or of neither (""). `products`: the numbers of those that are asked, and so no answers."""

    vector: Vectors
    parts: Callable[[], Parts]
    question: str = ""
    products: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which image of an answer matched, and how well each part of the question matches that image alone, in order."""

    image_id: str
    parts: Sequence[tuple[str, float]]

    @property
    def best(self) -> tuple[str, float]:
        """The first part that matches best."""
        return max(self.parts, key=lambda part: part[1])


def product_example(snapshot: Snapshot, product_id: str) -> Example:
    """A product asks with the mean direction of its images. Raises `UnknownProduct`."""
    number = snapshot.number(product_id)
    images = snapshot.products.images(number)

    def parts() -> Parts:
        names = [snapshot.products.image(row).image_id for row in images]
        return Parts(names, snapshot.store.vectors(images.start, images.stop))

    return Example(asking(snapshot.products, snapshot.store, number), parts, "product", frozenset({number}))


def asking(products: ProductTable, store: VectorStore, number: int) -> Vectors:
    """What the product of that number asks with: a unit vector `(1, d)`."""
    images = products.images(number)
    mine = store.vectors(images.start, images.stop)
    return mean_directions(mine, np.array([0, len(mine)], np.int32))


def photo_example(snapshot: Snapshot, embedder: Embedder, photo: bytes, crop: Crop | None = None) -> Example:
    """A photo, or a part of it, asks with the mean of its views. Raises `BadPicture`."""
    picture = decode(photo, crop, embedder.spec.edge(snapshot.views))
    if isinstance(picture, Refusal):
        raise BadPicture(picture.kind, picture.detail)
    raw = embed_views(snapshot.views, embedder, picture)

    def vector(of: Vectors) -> Vectors:
        return photo_vector(snapshot.projection, of, snapshot.spec.plain_dimension)

    def parts() -> Parts:
        return Parts(VIEWS[: len(raw)], np.concatenate([vector(view[None]) for view in raw]))

    asks = vector(raw)
    if not usable(asks).all():
        raise BadPicture(Kind.BAD_VECTOR, "The network gives no vector for this picture. Send another one.")
    return Example(asks, parts, "photo")


def embed_views(several: bool, embedder: Embedder, picture: Picture) -> Vectors:
    """One picture as a photo -> the raw vectors of its views `(views, d)`."""
    return embedder.embed(embedder.spec.seen(picture, several))


def photo_vector(projection: Projection | None, raw: Vectors, plain: int) -> Vectors:
    """The raw vectors of a photo's views `(views, d)` -> its unit vector `(1, k)` in the space of the catalog.

    Without a projection, that of its first `plain` values.
    """
    return projection.photo(raw) if projection else normalise(normalise(raw[:, :plain]).mean(axis=0, keepdims=True))


def mixed(liked: Sequence[tuple[str, Example, float]], unliked: Sequence[tuple[str, Example, float]] = ()) -> Example:
    """Several examples, each with a name and a weight, ask together. Raises `BadQuestion`.

    Relevance feedback (Rocchio 1971): the weighted mean of what is liked, less `GAMMA` times that of what is not.
    """
    if not liked or len(liked) + len(unliked) > MOST:
        raise BadQuestion(
            f"There are {len(liked)} examples to like, {len(unliked)} not to; give 1 to {MOST}, one to like."
        )
    if len(liked) == 1 and not unliked:
        return liked[0][1]
    vector = normalise(_mean(liked) - GAMMA * _mean(unliked))
    if not usable(vector).all():
        raise BadQuestion("What is liked and what is not cancel each other out. Give other examples or weights.")

    def parts() -> Parts:
        return Parts([name for name, _, _ in liked], np.concatenate([example.vector for _, example, _ in liked]))

    products = frozenset[int]().union(*(example.products for _, example, _ in (*liked, *unliked)))
    return Example(vector, parts, "", products)


def _mean(examples: Sequence[tuple[str, Example, float]]) -> Vectors:
    if not examples:
        return np.zeros((1, 1), np.float32)
    weights = np.array([weight for _, _, weight in examples])
    return np.average(np.concatenate([example.vector for _, example, _ in examples]), axis=0, weights=weights)[None]


def explained(snapshot: Snapshot, answers: Iterable[Hit], example: Example) -> list[Explanation]:
    """Why each answer is one."""
    parts = example.parts()
    found = []
    for answer in answers:
        scores = (parts.vectors @ snapshot.store.vectors(answer.row, answer.row + 1)[0]).round(DIGITS)
        named = zip(parts.names, (round(score, DIGITS) for score in scores.tolist()), strict=True)
        found.append(Explanation(answer.image.image_id, tuple(named)))
    return found
