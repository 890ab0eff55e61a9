"""Evaluate what is found by a product: how alike the hits are by the catalog's own columns.

`category@1`: the first hit has the same category; `category@10`: the share of the first 10 that have, or of as many as
there are. Of a column that keeps few products together, such as a style, `style@1` and `style@3`: another one is first,
or among the first three. nDCG@10: all columns together, a rarer value counting more (`indexer/metric/likeness.py`).
Products that nothing is like do not count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.metric.likeness import Likeness, few_together, filled_in, style_columns, telling_columns
from shared.images.gallery import Row, Section, Tile, page
from shared.index.columns import Column
from shared.index.product_table import ProductImage
from shared.index.row_groups import RowGroups
from shared.search.hits import Hit
from shared.search.params import TEN
from shared.search.search import similar_to_product
from shared.snapshot.reader import Snapshot

_MOST = 2000  # products that are searched by
_WORST, _SHOWN = 40, 6

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class AlikeOutcomes:
    """The products that were searched by `(n,)`, their hits, and each measure's value of each, NaN where it says
    nothing. `categories`: the value of the first column; "" where there is none."""

    asked: NDArray[np.int64]
    hits: Sequence[Sequence[Hit]]
    values: Values
    columns: Sequence[str]
    categories: Sequence[str]


def alike_outcomes(snapshot: Snapshot, wanted: Sequence[str] = ()) -> AlikeOutcomes | None:
    """Search by up to 2,000 products. `wanted` are the columns that say what is alike. None where none does, or there
    is one product only. Raises `ConfigError` for a column that is not there."""
    table = snapshot.products
    groups = RowGroups(table.starts)
    columns = telling_columns(snapshot.columns, groups, wanted)
    if not columns or groups.count < 2:
        return None
    asked = np.sort(np.random.default_rng(0).permutation(groups.count)[:_MOST])
    ids = [table.image(row).product_id for row in groups.first[asked].tolist()]
    hits = [similar_to_product(snapshot, product, TEN) for product in ids]
    count = min(TEN.k, groups.count - 1)
    found = groups.owners_of(np.array([[hit.row for hit in of_one] for of_one in hits]).reshape(len(asked), count))
    values: Values = {}
    styles = style_columns(snapshot.columns, groups, wanted)
    for column in {column.name: column for column in (*columns, *styles)}.values():
        values |= _of_column(column, groups, asked, found)
    values["nDCG@10"] = Likeness.of(columns, groups.first).ndcg(asked, found)
    first = columns[0]
    categories = [first.values[code] for code in first.codes[groups.first[asked]].tolist()]
    return AlikeOutcomes(asked, hits, values, [column.name for column in columns], categories)


def _of_column(column: Column, groups: RowGroups, asked: NDArray[np.int64], found: NDArray[np.int64]) -> Values:
    codes = column.codes[groups.first]
    sizes = np.bincount(codes)
    others = sizes[codes[asked]] - 1
    right = codes[found] == codes[asked][:, None]
    figures = {f"{column.name}@1": right[:, 0].astype(float)}
    if not few_together(codes):
        most = np.minimum(found.shape[1], np.maximum(others, 1))
        within = np.arange(found.shape[1])[None, :] < most[:, None]
        figures[f"{column.name}@10"] = (right & within).sum(axis=1) / most
    else:
        figures[f"{column.name}@3"] = right[:, :3].any(axis=1).astype(float)
    asks = (others > 0) & filled_in(column, groups)[asked]
    return {name: np.where(asks, value, np.nan) for name, value in figures.items()}


def measure_alike(
    outcomes: AlikeOutcomes, interval: Callable[[NDArray[np.float64]], dict[str, float]]
) -> dict[str, Any]:
    """Every measure with its interval, and nDCG@10 by category, worst first."""
    per_category: dict[str, list[float]] = {}
    for name, value in zip(outcomes.categories, outcomes.values["nDCG@10"].tolist(), strict=True):
        if value == value:  # no NaN
            per_category.setdefault(name, []).append(value)
    return {
        "products": len(outcomes.asked),
        "columns": list(outcomes.columns),
        "metrics": {
            name: interval(values[np.isfinite(values)])
            for name, values in outcomes.values.items()
            if np.isfinite(values).any()
        },
        "categories": {
            name: {"products": len(values), "nDCG@10": round(float(np.mean(values)), 4)}
            for name, values in sorted(per_category.items(), key=lambda item: float(np.mean(item[1])))
        },
    }


def alike_page(snapshot: Snapshot, outcomes: AlikeOutcomes, picture: Callable[[ProductImage], bytes]) -> str:
    """The products whose hits are least alike, with these; a green frame shares the first column's value."""
    table, figure = snapshot.products, outcomes.values["nDCG@10"]
    order = np.argsort(np.where(np.isfinite(figure), figure, np.inf), kind="stable")[:_WORST]
    rows = []
    for at in order[np.isfinite(figure[order])].tolist():
        image = table.image(int(table.starts[outcomes.asked[at]]))
        value = image.attributes.get(outcomes.columns[0], "")
        tiles = [
            _tile(
                hit.image,
                picture,
                f"{hit.score:.2f} {hit.verdict or ''}",
                hit.image.attributes.get(outcomes.columns[0], "") == value,
            )
            for hit in outcomes.hits[at][:_SHOWN]
        ]
        rows.append(Row(_tile(image, picture, f"nDCG {figure[at]:.2f}"), tiles))
    judged = f"{len(outcomes.asked):,} products, judged by {', '.join(outcomes.columns)}."
    intro = f"{judged} Worst first; a green frame has the same {outcomes.columns[0]}."
    return page("How alike is what is found by a product?", intro, [Section("Least alike", rows)])


def _tile(image: ProductImage, picture: Callable[[ProductImage], bytes], detail: str, right: bool = False) -> Tile:
    name = image.attributes.get("name") or image.product_id
    return Tile(picture(image), name, f"{image.product_id} · {detail}", "right" if right else "")
