"""Choose the space in which products are compared with products: the one in which alike products are near.

No column is fitted to: the columns of the catalog only judge. Those that repeat (category, style, colour) say which
products are alike; a rarer value says more. Where none does, the network's own space, square-rooted and centred, is
taken: on every catalog at hand it was at least as good as the plain one.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.metric.choose import Metric, sample
from indexer.metric.fit import Features, Owners, fit
from shared.index.columns import Column, columns_of
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.snapshot.manifest import AlikePart, Recipe
from shared.snapshot.writer import ProductSpace
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors, normalise

_DEPTH = 10
_GAIN = 0.002
_FILLED, _SHARED, _LARGEST = 0.6, 0.5, 0.5
_PLAIN, _CENTRED, _JOINED = "plain", "centred", "centred and learned"


def choose_product_space(
    raw: Vectors, groups: RowGroups, plain: int, metric: Metric, attributes: Sequence[Mapping[str, str]]
) -> tuple[ProductSpace | None, AlikePart]:
    """Choose among the network's own space, the same rooted and centred, and that joined with what was learned.

    `raw` `(n, d)`, `plain` values of each being its head; `attributes` are those of each row. Returns None where the
    metric's own space is the network's and wins.
    """
    images, few = Features(raw, plain), sample(groups.owners)
    owners = groups.owners[few]
    some = RowGroups.of(map(str, owners.tolist()))
    telling = [column for column in _columns(attributes) if _tells(column, groups)]
    chosen, judged = _CENTRED, dict[str, float]()
    if telling:
        worth, shown = _worth([column.codes[few][some.first] for column in telling]), images.rows(few)
        for name in (_PLAIN, _CENTRED, _JOINED):
            if space := _space(name, shown, owners, metric):
                judged[name] = round(_ndcg(space.vectors, some, worth), 4)
        chosen = _PLAIN
        for name, figure in judged.items():
            if figure > judged[chosen] + _GAIN:
                chosen = name
    part = AlikePart(chosen, ",".join(column.name for column in telling), judged)
    if chosen == _PLAIN and metric.projection is None:
        return None, part
    return _space(chosen, images, groups.owners, metric), part


def _space(name: str, images: Features, owners: Owners, metric: Metric) -> ProductSpace | None:
    """One of the spaces, for these images; None where nothing was learned to join."""
    if name == _PLAIN:
        return ProductSpace(None, images.plain)
    projection, vectors = fit(images, owners, None, Recipe(centre=True), smaller=True)
    if name == _CENTRED:
        return ProductSpace(projection, vectors)
    learned = metric.recipe
    if not (projection and metric.learned and (learned.within or learned.middle)):
        return None
    alone, _ = fit(images, owners, None, learned, smaller=True)
    if alone is None:
        return None
    both = Projection((*projection.blocks, *alone.blocks))
    return ProductSpace(both, both.images(images.raw))


def _columns(attributes: Iterable[Mapping[str, str]]) -> list[Column]:
    table = columns_of(attributes)
    return [table.column(name) for name in table.names]


def _tells(column: Column, groups: RowGroups) -> bool:
    """Tell whether a column says which products are alike: a text that most products have, and many share."""
    if column.numbers is not None:
        return False
    codes = column.codes[groups.first]
    filled = np.array([bool(value.strip()) for value in column.values])[codes]
    sizes = np.bincount(codes[filled], minlength=len(column.values))
    if filled.mean() < _FILLED or sizes.max(initial=0) > _LARGEST * filled.sum():
        return False
    return bool((sizes[codes[filled]] > 1).mean() >= _SHARED)


def _worth(columns: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
    """The likeness of each two products by the values that they share, a rarer one counting more (its information, as
    in inverse document frequency): `(products, products)`."""
    count = len(columns[0])
    worth = np.zeros((count, count), np.float32)
    for codes in columns:
        information = -np.log2(np.bincount(codes) / count, where=np.bincount(codes) > 0, out=np.zeros(codes.max() + 1))
        worth += np.where(codes[:, None] == codes[None, :], information[codes][:, None], 0).astype(np.float32)
    np.fill_diagonal(worth, 0)
    return worth


def _ndcg(vectors: Vectors, groups: RowGroups, worth: NDArray[np.float32]) -> float:
    """The mean normalised discounted cumulative gain of the first 10 hits (Jarvelin and Kekalainen, ACM TOIS 20(4),
    2002), over products that have one alike."""
    table = build_neighbour_table(normalise(vectors), groups, kept=_DEPTH)
    depth = table.rows.shape[1]
    if not depth:
        return 0.0
    discount = 1 / np.log2(np.arange(2, depth + 2))
    found = np.take_along_axis(worth, groups.owners_of(table.rows), axis=1) @ discount
    best = -np.sort(-worth, axis=1)[:, :depth] @ discount
    asked = best > 0
    return float((found[asked] / best[asked]).mean()) if asked.any() else 0.0
