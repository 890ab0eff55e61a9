"""Build queries from a product, or from several products and photos as positive and negative examples; explain hits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import BadQuestion
from shared.images.crop import Crop
from shared.index.neighbour_table import mean_directions
from shared.index.row_groups import RowGroups
from shared.search.hits import Hit
from shared.snapshot.verdicts import QueryKind
from shared.snapshot.view import SnapshotView, Space
from shared.vectors.top_k import DIGITS
from shared.vectors.unit import Vectors, normalise, usable

GAMMA = 0.3
MOST = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """The named parts of a query: a product's images, a photo's views; each as a unit vector `(n, d)`."""

    names: Sequence[str]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Query:
    """The unit vectors `(n, d)` of a `space` to search by, any of which a hit may be near; and the parts. `products`:
    the numbers of the products in the query, which are no hits. `window`: the part of a photo that it is of; None for
    the whole."""

    vectors: Vectors
    parts: Callable[[], Parts]
    kind: QueryKind = QueryKind.MIXED
    products: frozenset[int] = frozenset()
    space: Space = Space.PHOTOS
    window: Crop | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The image of a hit that matched, and how well each part of the query matches that image, in order."""

    image_id: str
    parts: Sequence[tuple[str, float]]

    @property
    def best(self) -> tuple[str, float]:
        """The first part that matches best."""
        return max(self.parts, key=lambda part: part[1])


def product_query(view: SnapshotView, product_id: str, space: Space = Space.PRODUCTS) -> Query:
    """Build a query from a product: each of its images. Raises `UnknownProduct`."""
    number = view.number(product_id)
    images = view.products.images(number)

    def parts() -> Parts:
        names = [view.products.image(row).image_id for row in images]
        return Parts(names, view.store_of(space).vectors(images.start, images.stop))

    return Query(view.query_vectors(number, space), parts, QueryKind.PRODUCT, frozenset({number}), space)


def mixed_query(
    positive: Sequence[tuple[str, Query, float]], negative: Sequence[tuple[str, Query, float]] = ()
) -> Query:
    """Build a query from several examples, each with a name and a weight. Raises `BadQuestion`.

    Relevance feedback (Rocchio 1971): the weighted mean of the positive ones, less `GAMMA` times that of the negative.
    """
    if not positive or len(positive) + len(negative) > MOST:
        raise BadQuestion(
            f"There are {len(positive)} examples to like, {len(negative)} not to; give 1 to {MOST}, one to like."
        )
    if len(positive) == 1 and not negative:
        return positive[0][1]
    vector = normalise(_mean(positive) - GAMMA * _mean(negative))
    if not usable(vector).all():
        raise BadQuestion("What is liked and what is not cancel each other out. Give other examples or weights.")

    def parts() -> Parts:
        return Parts([name for name, _, _ in positive], _middles(positive))

    products = frozenset[int]().union(*(query.products for _, query, _ in (*positive, *negative)))
    return Query(vector, parts, QueryKind.MIXED, products, positive[0][1].space)


def _mean(examples: Sequence[tuple[str, Query, float]]) -> Vectors:
    if not examples:
        return np.zeros((1, 1), np.float32)
    weights = np.array([weight for _, _, weight in examples])
    return np.average(_middles(examples), axis=0, weights=weights)[None]


def _middles(examples: Sequence[tuple[str, Query, float]]) -> Vectors:
    """The mean direction of each example's vectors: `(examples, d)`."""
    queries = [query.vectors for _, query, _ in examples]
    sizes = np.cumsum([0, *map(len, queries)], dtype=np.int32)
    return mean_directions(np.concatenate(queries), RowGroups(sizes))


def explain(view: SnapshotView, hits: Iterable[Hit], query: Query) -> list[Explanation]:
    """Explain each hit."""
    parts = query.parts()
    found = []
    for hit in hits:
        scores = (parts.vectors @ view.store_of(query.space).vectors(hit.row, hit.row + 1)[0]).round(DIGITS)
        named = zip(parts.names, (round(score, DIGITS) for score in scores.tolist()), strict=True)
        found.append(Explanation(hit.image.image_id, tuple(named)))
    return found
