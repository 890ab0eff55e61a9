"""The searches over one view. They know no HTTP: serving, evaluating and precomputing run the same code.

A product that is asked about is never among its own hits.
"""

from dataclasses import replace

import numpy as np

from shared.embedding.embedder import Embedder
from shared.search.diversity import diversified
from shared.search.hits import Hit
from shared.search.params import TEN, SearchParams
from shared.search.photo_query import photo_query
from shared.search.queries import Query
from shared.search.ranking import (
    Ranking,
    alike_enough,
    hits_of,
    nearest_to,
    numbers_of,
    page_of,
    product_evidence,
    verdicts_of,
)
from shared.snapshot.verdicts import QueryKind
from shared.snapshot.view import SnapshotView, Space
from shared.timing import stage
from shared.vectors.unit import Vectors


def similar_to_product(view: SnapshotView, product_id: str, params: SearchParams = TEN) -> list[Hit]:
    """Find the products that look most like this one: the pinned ones first. Raises `UnknownProduct`."""
    product = view.number(product_id)
    pinned = view.pinned(product_id, product)
    rows, scores, whole = view.neighbours(product, pinned.apart)
    near = Ranking(rows, scores, product_evidence(view, product, rows, scores), whole)
    if not pinned.apart:
        if params.plain and (whole or params.k <= len(rows)):
            return hits_of(view, near.where(slice(params.k)), QueryKind.PRODUCT)
        return _near_product(view, product, near, params)
    weighed = product_evidence(view, product, pinned.rows, pinned.scores)
    first = Ranking(pinned.rows, pinned.scores, weighed, whole=False)
    kept = ~np.isin(view.products.owners(pinned.rows), numbers_of(view, params.exclude))
    if params.filter:
        kept &= view.allowed(params.filter)[pinned.rows]
    hits = hits_of(view, alike_enough(view, first.where(kept), params, QueryKind.PRODUCT), QueryKind.PRODUCT)
    if left := max(0, params.last - len(hits)):
        hits += _near_product(view, product, near, replace(params, k=left, offset=0), pinned.apart)
    return [hit._replace(rank=rank) for rank, hit in _page(hits, params)]


def similar_to_photo(view: SnapshotView, embedder: Embedder, photo: bytes, params: SearchParams = TEN) -> list[Hit]:
    """Find the products that look most like this photo. Raises `BadPicture`."""
    return similar_to_query(view, photo_query(view, embedder, photo), params)


def similar_to_query(view: SnapshotView, query: Query, params: SearchParams = TEN) -> list[Hit]:
    """Find the products that look most like a query of any kind."""
    asked = next(iter(query.products)) if query.kind is QueryKind.PRODUCT and query.products else None
    return similar_to_vectors(view, query.vectors, params, query.kind, query.products, query.space, asked)


@stage("search")
def similar_to_vectors(
    view: SnapshotView,
    queries: Vectors,
    params: SearchParams = TEN,
    kind: QueryKind = QueryKind.PHOTO,
    without: frozenset[int] = frozenset(),
    space: Space = Space.PHOTOS,
    asked: int | None = None,
) -> list[Hit]:
    """Find the products nearest to any of the unit vectors `(n, d)` of a space, without the products of those numbers.
    `asked`: the product that the query is, None for any other query."""
    store = view.store_of(space)
    if not params.rearranged:
        return page_of(view, nearest_to(view, store, queries, params.last, params, kind, without, asked), kind, params)
    fold = verdicts_of(view, QueryKind.PRODUCT).variant if params.collapse else np.inf
    chosen = np.zeros(0, np.int64)  # products: inverted lists visited for more hits may change the ranking
    upto = 10
    while True:
        # The first 10 are chosen from as many candidates whatever k is, and so on, so that pages fit together.
        ranking = nearest_to(view, store, queries, 4 * upto + 16, params, kind, without, asked)
        # Whether two hits are alike is a question about products, whatever the query is.
        own = [view.product_store.vectors(row, row + 1) for row in ranking.rows.tolist()]
        vectors = np.concatenate([np.zeros((0, view.product_store.dimension), np.float32), *own])
        count = params.last if ranking.whole else min(upto, params.last)
        owners = view.products.owners(ranking.rows)
        places = {owner: place for place, owner in enumerate(owners.tolist())}
        before = [places[owner] for owner in chosen.tolist() if owner in places]
        now = np.array(diversified(ranking.scores, vectors, count, fold, params.diversity, before), np.int64)
        if len(now) == params.last or ranking.whole:
            return page_of(view, ranking.where(now), kind, params)
        chosen = owners[now]
        upto *= 4


def _near_product(
    view: SnapshotView, product: int, near: Ranking, params: SearchParams, without: frozenset[int] = frozenset()
) -> list[Hit]:
    """The hits of a product: first those of the neighbour table, then those that a search finds beyond.

    The two round a score differently now and then. So a product has one rank, whatever page it is asked for on, and
    what was found beyond scores no more than what the table knows.
    """
    apart = without | {product}
    if params.rearranged or params.filter:
        queries = view.query_vectors(product)
        return similar_to_vectors(view, queries, params, QueryKind.PRODUCT, apart, Space.PRODUCTS, product)
    owners = view.products.owners(near.rows)
    known = near.where(~np.isin(owners, numbers_of(view, params.exclude)))
    ranking = alike_enough(view, known, params, QueryKind.PRODUCT)
    if ranking.whole or len(ranking.rows) >= params.last:
        return page_of(view, ranking, QueryKind.PRODUCT, params)
    hits = hits_of(view, ranking, QueryKind.PRODUCT)
    count, least = len(hits), hits[-1].score if hits else 1.0
    beyond = replace(params, k=params.last - count, offset=0)
    apart = apart.union(owners.tolist())
    queries = view.query_vectors(product)
    hits += similar_to_vectors(view, queries, beyond, QueryKind.PRODUCT, apart, Space.PRODUCTS, product)
    return [
        hit._replace(rank=rank, score=min(hit.score, least) if rank > count else hit.score)
        for rank, hit in _page(hits, params)
    ]


def _page(hits: list[Hit], params: SearchParams) -> list[tuple[int, Hit]]:
    """The hits of the page, with their ranks."""
    return [*enumerate(hits[params.offset : params.last], params.offset + 1)]
