"""Choose the space in which products are compared with products: the one in which alike products are near.

No column is fitted to: the columns of the catalog only judge. Those that repeat (category, style, colour) say which
products are alike; a rarer value says more. Where none does, the network's own space, square-rooted and centred, is
taken: on every catalog at hand it was at least as good as the plain one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.metric.choose import Metric, sample
from indexer.metric.fit import Features, Owners, fit
from shared.index.columns import Column, Columns
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.snapshot.manifest import AlikePart, Recipe
from shared.snapshot.writer import ProductSpace
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors, normalise, usable

_DEPTH = 10
_GAIN = 0.002
_FEW, _MOST_COLUMNS = 20, 8
_FILLED, _SHARED, _LARGEST = 0.6, 0.5, 0.5
_PLAIN, _CENTRED, _JOINED = "plain", "centred", "centred and learned"


def choose_product_space(
    raw: Vectors, groups: RowGroups, plain: int, metric: Metric, columns: Columns
) -> tuple[ProductSpace | None, AlikePart]:
    """Choose among the network's own space, the same rooted and centred, and that joined with what was learned.

    `raw` `(n, d)`, `plain` values of each being its head; `columns` are those of the rows. Returns None where the
    metric's own space is the network's and wins. A mean of few products tells nothing, so theirs stay plain.
    """
    images, few = Features(raw, plain), sample(groups.owners)
    owners = groups.owners[few]
    some = RowGroups.of(map(str, owners.tolist()))
    telling = [column for column in map(columns.column, columns.names) if _tells(column, groups)][:_MOST_COLUMNS]
    chosen, judged = _CENTRED if groups.count >= _FEW else _PLAIN, dict[str, float]()
    if telling and groups.count >= _FEW:
        judge, shown = _Judge.of([column.codes[few][some.first] for column in telling], some), images.rows(few)
        for name in (_PLAIN, _CENTRED, _JOINED):
            if space := _space(name, shown, owners, metric):
                judged[name] = round(judge.ndcg(space.vectors), 4)
        chosen = _PLAIN
        for name, figure in judged.items():
            if figure > judged[chosen] + _GAIN:
                chosen = name
    space = _space(chosen, images, groups.owners, metric)
    if space is None or not usable(space.vectors).all():  # a picture that is the mean of all has no direction
        chosen, space = _PLAIN, _space(_PLAIN, images, groups.owners, metric)
    part = AlikePart(chosen, tuple(column.name for column in telling), judged)
    return (None if chosen == _PLAIN and metric.projection is None else space), part


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


@dataclass(frozen=True, slots=True)
class _Judge:
    """The likeness of each two products by the columns, `worth` `(products, products)`; the best gain that the first 10
    hits of each product could have, `best` `(products,)`; and the products' rows."""

    worth: NDArray[np.float32]
    best: NDArray[np.float64]
    groups: RowGroups

    @classmethod
    def of(cls, columns: Sequence[NDArray[np.int32]], groups: RowGroups) -> "_Judge":
        """Judge by columns: the code of each product's value in each of them. A shared value counts by its information
        (as in inverse document frequency)."""
        count = groups.count
        worth = np.zeros((count, count), np.float32)
        for codes in columns:
            sizes = np.bincount(codes)
            information = -np.log2(np.maximum(sizes, 1) / count).astype(np.float32)
            worth += (codes[:, None] == codes[None, :]) * information[codes][:, None]
        np.fill_diagonal(worth, 0)
        depth = min(_DEPTH, count - 1)
        highest = -np.sort(np.partition(-worth, depth - 1, axis=1)[:, :depth], axis=1)
        return cls(worth, highest @ _discount(depth), groups)

    def ndcg(self, vectors: Vectors) -> float:
        """The mean normalised discounted cumulative gain of the first 10 hits (Jarvelin and Kekalainen, ACM TOIS 20(4),
        2002), over the products that have one alike."""
        table = build_neighbour_table(normalise(vectors), self.groups, kept=_DEPTH)
        gains = np.take_along_axis(self.worth, self.groups.owners_of(table.rows), axis=1)
        asked = self.best > 0
        return (
            float(((gains @ _discount(table.rows.shape[1]))[asked] / self.best[asked]).mean()) if asked.any() else 0.0
        )


def _discount(depth: int) -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(np.arange(2, depth + 2)))
