"""The two questions over one open snapshot. No HTTP in it: serving, evaluating and precomputing ask the same code.

A product counts once, by its best image; the asked product is never among its own answers; equal scores stand in the
catalog's order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.embedders import Embedder
from shared.errors import BadPicture, BadQuestion, UnknownProduct
from shared.images import Picture, decode, square, views
from shared.neighbours import mean_directions
from shared.products import Neighbour
from shared.projection import Projection
from shared.ranking import DIGITS
from shared.refusals import Kind, Refusal
from shared.snapshot import Snapshot
from shared.vectors import Vectors, normalise, usable
from shared.verdicts import evidence

MOST = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the answers: how many; whether variants of one thing count once; how much unlikeness among them
    is worth against likeness to the question (0 to 1). Raises `BadQuestion`."""

    k: int = 10
    collapse: bool = False
    diversity: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise BadQuestion(f"k is {self.k}; it must be a whole number from 1 to {MOST:,}.")
        if not 0 <= self.diversity <= 1:
            raise BadQuestion(f"diversity is {self.diversity}; it must be a number from 0 to 1.")


TEN = Wanted()


def similar_to_product(snapshot: Snapshot, product_id: str, wanted: Wanted = TEN) -> list[Neighbour]:
    """The products that look most like this one. Raises `UnknownProduct`."""
    product = snapshot.products.find(product_id)
    if product is None:
        raise UnknownProduct(f"The product {product_id!r} is not in the index of {snapshot.manifest.partition}.")
    table = snapshot.neighbours
    plain = not (wanted.collapse or wanted.diversity)
    if plain and (wanted.k <= table.rows.shape[1] or table.rows.shape[1] == snapshot.products.count - 1):
        return _answers(snapshot, table.rows[product, : wanted.k], table.scores[product, : wanted.k], "product")
    images = snapshot.products.images(product)
    mine = snapshot.store.vectors(images.start, images.stop)
    asked = mean_directions(mine, np.array([0, len(mine)], np.int32))
    return similar_to_vectors(snapshot, asked, wanted, "product", without=product)


def similar_to_photo(snapshot: Snapshot, embedder: Embedder, photo: bytes, wanted: Wanted = TEN) -> list[Neighbour]:
    """The products that look most like this photo. Raises `BadPicture`."""
    picture = decode(photo)
    if isinstance(picture, Refusal):
        raise BadPicture(picture.kind, picture.detail)
    return similar_to_vectors(snapshot, embed_photo(snapshot, embedder, picture), wanted)


def embed_photo(snapshot: Snapshot, embedder: Embedder, picture: Picture) -> Vectors:
    """One picture -> a unit vector `(1, d)` of the snapshot's space. Raises `BadPicture` where there is none."""
    raw = embed_views(snapshot.views, embedder, picture)
    vectors = photo_vector(snapshot.projection, raw, snapshot.spec.plain_dimension)
    if not usable(vectors).all():
        raise BadPicture(Kind.BAD_VECTOR, "The network gives no vector for this picture. Send another one.")
    return vectors


def embed_views(several: bool, embedder: Embedder, picture: Picture) -> Vectors:
    """One picture as a photo -> the raw vectors of its views `(views, d)`."""
    size = embedder.spec.image_size
    return embedder.embed(views(picture, size) if several else square(picture, size)[None])


def photo_vector(projection: Projection | None, raw: Vectors, plain: int) -> Vectors:
    """The raw vectors of a photo's views `(views, d)` -> its unit vector `(1, k)` in the space of the catalog.

    Without a projection, that of its first `plain` values.
    """
    return projection.photo(raw) if projection else normalise(normalise(raw[:, :plain]).mean(axis=0, keepdims=True))


def similar_to_vectors(
    snapshot: Snapshot, queries: Vectors, wanted: Wanted = TEN, question: str = "photo", without: int | None = None
) -> list[Neighbour]:
    """The products nearest to any of the unit vectors `(n, d)`, without the product of that number."""
    if not (wanted.collapse or wanted.diversity):
        rows, scores = _nearest(snapshot, queries, max(2, wanted.k), without)
        return _answers(snapshot, rows, scores, question)[: wanted.k]
    fold = _fold(snapshot) if wanted.collapse else np.inf
    pool = 4 * wanted.k + 16
    while True:
        rows, scores = _nearest(snapshot, queries, pool, without)
        answers = _answers(snapshot, rows, scores, question)
        vectors = np.concatenate([snapshot.store.vectors(row, row + 1) for row in rows.tolist()] or [queries[:0]])
        chosen = arranged(scores, vectors, wanted.k, fold, wanted.diversity)
        if len(chosen) == wanted.k or len(rows) < pool:
            return [answers[at].ranked(rank) for rank, at in enumerate(chosen, 1)]
        pool *= 4


def arranged(scores: Vectors, vectors: Vectors, k: int, fold: float, diversity: float) -> list[int]:
    """Which of the candidates, best first, `(n,)` and `(n, d)`, to show, in which order.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998); what is as near as `fold` to one that was chosen
    is left out.
    """
    chosen: list[int] = []
    left = np.ones(len(scores), bool)
    nearest = np.zeros(len(scores), np.float32)
    while len(chosen) < k and left.any():
        worth = (1 - diversity) * scores - diversity * nearest
        best = int(np.where(left, worth, -np.inf).argmax())
        likeness = vectors @ vectors[best]
        nearest = np.maximum(nearest, likeness) if chosen else likeness
        chosen.append(best)
        left &= nearest < fold
        left[best] = False
    return chosen


def _fold(snapshot: Snapshot) -> float:
    verdicts = snapshot.verdicts.get("product")
    if verdicts is None:
        raise BadQuestion("This snapshot does not know what a variant is: its verdicts were not fitted. Index again.")
    return verdicts.variant


def _nearest(snapshot: Snapshot, queries: Vectors, k: int, without: int | None) -> tuple[NDArray[np.int64], Vectors]:
    """The best rows of the `k` nearest products, and their scores, best first."""
    store, table = snapshot.store, snapshot.products
    fetch = min(store.count, 4 * k + 64)
    while True:
        scores, rows = store.search(queries, fetch)
        # What was not fetched scores at most this, so products above it are final.
        floor = float(scores[:, -1].max().round(DIGITS))
        best_scores, best_rows = _best_of_each(scores.round(DIGITS).ravel(), rows.ravel(), table.owners(rows.ravel()))
        if without is not None:
            others = table.owners(best_rows) != without
            best_scores, best_rows = best_scores[others], best_rows[others]
        if fetch == store.count or int((best_scores > floor).sum()) >= k:
            return best_rows[:k], best_scores[:k]
        fetch = min(store.count, 2 * fetch)


def _best_of_each(
    scores: Vectors, rows: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[Vectors, NDArray[np.int64]]:
    """Each product's best score and its row, best first; ties by row."""
    ranked = np.lexsort((rows, -scores))
    _, first = np.unique(owners[ranked], return_index=True)
    kept = ranked[np.sort(first)]
    return scores[kept], rows[kept]


def _answers(snapshot: Snapshot, rows: NDArray[np.integer], scores: Vectors, question: str) -> list[Neighbour]:
    verdicts = snapshot.verdicts.get(question)
    # A product does not compete for being itself, so its answers' scores are the evidence.
    weighed = evidence(scores) if question == "photo" else scores
    line = snapshot.products.line
    return [
        Neighbour(rank, round(score, DIGITS), line(row), verdicts.of(weight) if verdicts else "")
        for rank, (row, score, weight) in enumerate(
            zip(rows.tolist(), scores.tolist(), weighed.tolist(), strict=True), 1
        )
    ]
