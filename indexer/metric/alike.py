"""Choose the space in which products are compared with products: the one in which alike products are near.

No column is fitted to: the columns of the catalog only judge (`likeness`). Where none tells, the network's own space,
square-rooted and centred, is taken: on every catalog at hand it was at least as good as the plain one.
"""

from collections.abc import Sequence

import numpy as np

from indexer.metric.choose import Metric, sample
from indexer.metric.fit import Features, Owners, fit
from indexer.metric.likeness import DEPTH, Likeness
from shared.index.columns import Column
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.snapshot.manifest import AlikePart, Recipe
from shared.snapshot.writer import ProductSpace
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors, normalise, usable

_GAIN = 0.002
_FEW = 20
_PLAIN, _CENTRED, _JOINED = "plain", "centred", "centred and learned"


def choose_product_space(
    raw: Vectors, groups: RowGroups, plain: int, metric: Metric, telling: Sequence[Column]
) -> tuple[ProductSpace | None, AlikePart]:
    """Choose among the network's own space, the same rooted and centred, and that joined with what was learned.

    `raw` `(n, d)`, `plain` values of each being its head; `telling` are columns of the rows
    that say which products are alike. Returns None where the metric's own space is the network's and wins. A mean of
    few products tells nothing, so theirs stay plain.
    """
    images, few = Features(raw, plain), sample(groups.owners)
    owners = groups.owners[few]
    some = RowGroups.of(map(str, owners.tolist()))
    chosen, judged = _CENTRED if groups.count >= _FEW else _PLAIN, dict[str, float]()
    if telling and groups.count >= _FEW:
        likeness, shown = Likeness.of(telling, few[some.first]), images.rows(few)
        for name in (_PLAIN, _CENTRED, _JOINED):
            if space := _space(name, shown, owners, metric):
                judged[name] = round(_ndcg(likeness, space.vectors, some), 4)
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


def _ndcg(likeness: Likeness, vectors: Vectors, groups: RowGroups) -> float:
    """The mean measure of all products' hits in a space; 0 where no two are alike."""
    table = build_neighbour_table(normalise(vectors), groups, kept=DEPTH)
    found = likeness.ndcg(np.arange(groups.count), groups.owners_of(table.rows))
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
