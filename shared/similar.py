"""The two questions over one open snapshot. No HTTP in it: serving, evaluating and precomputing ask the same code.

A product counts once, by its best image; the asked product is never among its own answers; equal scores stand in the
catalog's order.
"""

import numpy as np
from numpy.typing import NDArray

from shared.embedders import Embedder
from shared.errors import BadPicture, BadQuestion, UnknownProduct
from shared.images import Picture, decode, square, views
from shared.neighbours import DIGITS
from shared.products import Neighbour
from shared.refusals import Kind, Refusal
from shared.snapshot import Snapshot
from shared.vectors import Vectors, normalise, usable

MOST = 1000


def similar_to_product(snapshot: Snapshot, product_id: str, k: int = 10) -> list[Neighbour]:
    """The `k` products that look most like this one. Raises `UnknownProduct`, or `BadQuestion` for `k`."""
    _check(k)
    product = snapshot.products.find(product_id)
    if product is None:
        raise UnknownProduct(f"The product {product_id!r} is not in the index of {snapshot.manifest.partition}.")
    table = snapshot.neighbours
    if k <= table.rows.shape[1] or table.rows.shape[1] == snapshot.products.count - 1:
        return _answers(snapshot, table.rows[product, :k], table.scores[product, :k])
    images = snapshot.products.images(product)
    return similar_to_vectors(snapshot, snapshot.store.vectors(images.start, images.stop), k, without=product)


def similar_to_photo(snapshot: Snapshot, embedder: Embedder, photo: bytes, k: int = 10) -> list[Neighbour]:
    """The `k` products that look most like this photo. Raises `BadPicture`, or `BadQuestion` for `k`."""
    _check(k)
    picture = decode(photo)
    if isinstance(picture, Refusal):
        raise BadPicture(picture.kind, picture.detail)
    return similar_to_vectors(snapshot, embed_photo(snapshot, embedder, picture), k)


def embed_photo(snapshot: Snapshot, embedder: Embedder, picture: Picture) -> Vectors:
    """One picture -> a unit vector `(1, d)` of the snapshot's space. Raises `BadPicture` where there is none."""
    size = embedder.spec.image_size
    if snapshot.projection is None:
        vectors = normalise(embedder.embed(square(picture, size)[None]))
    else:
        vectors = snapshot.projection.photo(embedder.embed(views(picture, size)))
    if not usable(vectors).all():
        raise BadPicture(Kind.BAD_VECTOR, "The network gives no vector for this picture. Send another one.")
    return vectors


def similar_to_vectors(
    snapshot: Snapshot, queries: Vectors, k: int = 10, without: int | None = None
) -> list[Neighbour]:
    """The `k` products nearest to any of the unit vectors `(n, d)`, without the product of that number."""
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
            return _answers(snapshot, best_rows[:k], best_scores[:k])
        fetch = min(store.count, 2 * fetch)


def _best_of_each(
    scores: Vectors, rows: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[Vectors, NDArray[np.int64]]:
    """Each product's best score and its row, best first; ties by row."""
    ranked = np.lexsort((rows, -scores))
    _, first = np.unique(owners[ranked], return_index=True)
    kept = ranked[np.sort(first)]
    return scores[kept], rows[kept]


def _answers(snapshot: Snapshot, rows: NDArray[np.integer], scores: Vectors) -> list[Neighbour]:
    pairs = zip(rows.tolist(), scores.tolist(), strict=True)
    return [
        Neighbour(rank, round(score, DIGITS), snapshot.products.line(row)) for rank, (row, score) in enumerate(pairs, 1)
    ]


def _check(k: int) -> None:
    if not 1 <= k <= MOST:
        raise BadQuestion(f"k is {k}; it must be a whole number from 1 to {MOST:,}.")
