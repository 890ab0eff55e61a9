"""Choose the space in which products are compared with products: the one in which alike products are near.

No column is fitted to: the columns of the catalog only judge (`likeness`). Where none tells, the network's own space,
square-rooted and centred, with neighbours, is taken: on every catalog at hand it was better than the plain one.

With neighbours: beside each image's own vector stands its product's, drawn to those of the nearest products, in rounds.
Products of one kind have neighbours in common, which tell them from others that only happen to look alike (database
augmentation: Arandjelovic and Zisserman, CVPR 2012; Radenovic et al., TPAMI 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexer.metric.choose import Metric, sample
from indexer.metric.fit import Features, fit
from indexer.metric.likeness import DEPTH, Likeness
from shared.index.columns import Column
from shared.index.neighbour_table import build_neighbour_table, mean_directions
from shared.index.row_groups import RowGroups
from shared.snapshot.manifest import AlikePart, Recipe
from shared.snapshot.writer import ProductSpace
from shared.vectors.projection import Projection, joined
from shared.vectors.unit import Vectors, normalise, usable

_GAIN = 0.002
_FEW = 20
_NEAREST, _ROUNDS = 5, 2
_LISTED = 2  # a picture of one product that is listed twice is its own
_NAMES = _PLAIN, _CENTRED, _NEIGHBOURS = "plain", "centred", "centred, with neighbours"


@dataclass(frozen=True)
class _Spaces:
    """The spaces to choose from, for these images; each is made when it is asked for."""

    images: Features
    groups: RowGroups

    def of(self, name: str) -> ProductSpace:
        return self.plain if name == _PLAIN else self.centred if name == _CENTRED else self.with_neighbours

    @property
    def plain(self) -> ProductSpace:
        return ProductSpace(None, self.images.plain, self.images.width)

    @cached_property
    def centred(self) -> ProductSpace:
        projection, vectors = fit(self.images, self.groups.owners, None, Recipe(centre=True), smaller=True)
        return ProductSpace(projection, vectors, vectors.shape[1])

    @property
    def with_neighbours(self) -> ProductSpace:
        vectors = self.centred.vectors
        products = _drawn(mean_directions(vectors, self.groups))[self.groups.owners]
        blocks = self.centred.projection.blocks if self.centred.projection else ()
        return ProductSpace(Projection(blocks * 2), joined([vectors, products]), vectors.shape[1])


def choose_product_space(
    raw: Vectors, contents: Sequence[str], groups: RowGroups, plain: int, metric: Metric, telling: Sequence[Column]
) -> tuple[ProductSpace | None, AlikePart]:
    """Choose among the network's own space, the same rooted and centred, and that with neighbours.

    `raw` `(n, d)`, `plain` values of each being its head; `contents` are the rows' content hashes, and `telling`
    columns of the rows that say which products are alike. Returns None where the metric's own space is the network's
    and wins. A mean of few products tells nothing, so theirs stay plain.
    """
    pictured = _own_pictures(contents, groups)
    common = bool((pictured != np.arange(len(raw))).any())
    spaces, few = _Spaces(Features(raw[pictured] if common else raw, plain), groups), sample(groups.owners)
    chosen, judged = _NEIGHBOURS if groups.count >= _FEW else _PLAIN, dict[str, float]()
    if telling and groups.count >= _FEW:
        some = RowGroups.of(map(str, groups.owners[few].tolist()))
        shown = spaces if len(few) == len(raw) else _Spaces(spaces.images.rows(few), some)
        likeness = Likeness.of(telling, few[some.first])
        judged = {name: round(_ndcg(likeness, shown.of(name).vectors, some), 4) for name in _NAMES}
        chosen = _PLAIN
        for name, figure in judged.items():
            if figure > judged[chosen] + _GAIN:
                chosen = name
    space = spaces.of(chosen)
    if not usable(space.vectors).all():  # a picture that is the mean of all has no direction
        chosen, space = _PLAIN, spaces.plain
    part = AlikePart(chosen, tuple(column.name for column in telling), judged)
    return (None if chosen == _PLAIN and metric.projection is None and not common else space), part


def _own_pictures(contents: Sequence[str], groups: RowGroups) -> NDArray[np.int64]:
    """The row whose picture stands for each row's `(rows,)`: its own, mostly. For one that several products show, such
    as a size chart, the first of the same product that is not; else products would be alike by it."""
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(content, len(numbers)) for content in contents], np.int64)
    shown = np.unique(codes * groups.count + groups.owners) // groups.count  # each picture once for each product
    own = np.bincount(shown)[codes] <= _LISTED
    rows = np.arange(len(codes))
    first = np.minimum.reduceat(np.where(own, rows, len(rows)), groups.first)[groups.owners]
    return np.where(own | (first == len(rows)), rows, first)


def _drawn(means: Vectors) -> Vectors:
    """Draw each product's vector to those of its nearest, the more the nearer they are: `(products, d)`."""
    alone = RowGroups(np.arange(len(means) + 1, dtype=np.int32))
    for _ in range(_ROUNDS):
        near = build_neighbour_table(means, alone, kept=_NEAREST)
        drawn = means.copy()
        for rows, scores in zip(near.rows.T, near.scores.T, strict=True):
            drawn += (np.maximum(scores, 0) ** 2)[:, None] * means[rows]
        means = normalise(drawn)
    return means


def _ndcg(likeness: Likeness, vectors: Vectors, groups: RowGroups) -> float:
    """The mean measure of all products' hits in a space; 0 where no two are alike."""
    table = build_neighbour_table(normalise(vectors), groups, kept=DEPTH)
    found = likeness.ndcg(np.arange(groups.count), groups.owners_of(table.rows))
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
