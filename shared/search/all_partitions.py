"""Search all partitions by one product, and merge their hits."""

from collections.abc import Mapping
from dataclasses import replace

from shared.errors import UnknownProduct
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.search.queries import Query, product_query
from shared.search.search import similar_to_product, similar_to_query
from shared.snapshot.view import SnapshotView


def queries_everywhere(snapshots: Mapping[str, SnapshotView], product_id: str) -> dict[str, Query]:
    """The query for the product in each partition that can be searched by it. Raises `UnknownProduct`.

    A partition that lists the product is asked with its own images of it. Scores of different spaces cannot be
    compared, so another one is asked only where its space is that of a partition that lists it.
    """
    listing = {name: snapshot for name, snapshot in snapshots.items() if snapshot.products.find(product_id) is not None}
    if not listing:
        known = ", ".join(snapshots) or "none"
        raise UnknownProduct(f"The product {product_id!r} is in no index. Indexes here: {known}.")
    asked = {name: product_query(snapshot, product_id) for name, snapshot in listing.items()}
    spaces: dict[tuple[str, ...], Query] = {}
    for name, snapshot in listing.items():
        spaces.setdefault(snapshot.space, replace(asked[name], products=frozenset()))
    others = {name: spaces[snapshot.space] for name, snapshot in snapshots.items() if snapshot.space in spaces}
    return others | asked


def similar_everywhere(
    snapshots: Mapping[str, SnapshotView], product_id: str, asked: Mapping[str, Query], params: SearchParams
) -> list[tuple[str, Hit]]:
    """The products that look most like this one, each once, and the partition of each. If only some partitions have the
    filter's columns, the others have no hits."""
    whole = replace(params, k=params.last, offset=0)
    columns = {condition.column for condition in params.filter.conditions} if params.filter else set()
    able = [name for name in asked if columns.issubset(snapshots[name].columns.names)]
    found: list[tuple[str, Hit]] = []
    for name in able or asked:
        own = asked[name].products  # then its neighbours are known
        ask = (
            similar_to_product(snapshots[name], product_id, whole)
            if own
            else similar_to_query(snapshots[name], asked[name], whole)
        )
        found += [(name, answer) for answer in ask]
    best: dict[str, tuple[str, Hit]] = {}
    for name, answer in sorted(found, key=lambda pair: -pair[1].score):
        best.setdefault(answer.image.product_id, (name, answer))
    page = list(best.values())[params.offset : params.last]
    return [(name, answer._replace(rank=rank)) for rank, (name, answer) in enumerate(page, params.offset + 1)]
