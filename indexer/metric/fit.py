"""Fit the space that is searched to a catalog, by a recipe, which says which parts of the method are used.

- `root`: signed square roots. Every other part begins with them; alone they are for networks whose values have signs,
  because a few of those are far larger than the others.
- `centre`: subtract the catalog's mean.
- `within`: whiten by the scatter within products (linear discriminant analysis; ridge as in Friedman, "Regularized
  Discriminant Analysis", JASA 1989).
- `middle`: do so in the network's middle, `instead` of its head or `beside` it: two blocks, whitened each by itself.
- `pull`: draw each image towards its product's mean (the nearest class mean of Mensink et al., TPAMI 2013, in part).
- `photos`: how shoppers' photos are used. `centre` them on their own mean; `whiten` by their spread; `adapt` the
  catalog's vectors to the photos assigned to them (soft k-means that starts from the catalog); `teach`: those
  assignments teach a discriminant of the photos' middle, which assigns them anew, in rounds (co-training, Blum and
  Mitchell, COLT 1998).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from shared.snapshot.manifest import Middle, PhotoUse, Recipe
from shared.vectors.projection import Block, Projection, joined, pulled, rooted
from shared.vectors.unit import Vectors, blocks, normalise

Owners = NDArray[np.int64]

DIMENSION = 256
_RIDGE, _SPREAD = 0.3, -0.15
_ROUNDS, _SHARPNESS, _KEPT = 12, 10.0, 0.5
_LESSONS, _TAUGHT_SHARPNESS = 4, 25.0


@dataclass(frozen=True)
class Features:
    """A network's `raw` vectors `(n, d + e)`, `width` values being the head, as unit vectors: `plain` `(n, d)` as the
    network gives them; rooted, `head` `(n, d)` and `middle` `(n, e)`, the last without columns where the network has
    none. Each is made when it is asked for: a whole catalog's are large."""

    raw: Vectors
    width: int

    @cached_property
    def plain(self) -> Vectors:
        return normalise(self.raw[:, : self.width])

    @cached_property
    def head(self) -> Vectors:
        return rooted(self.raw[:, : self.width])

    @cached_property
    def middle(self) -> Vectors:
        return np.nan_to_num(rooted(self.raw[:, self.width :]), copy=False)

    @cached_property
    def spread(self) -> Vectors:
        """The head's main axes, the strong ones damped a little: `(d, k)`."""
        return _spread(self.head)

    def part(self, start: int) -> Vectors:
        """The part that begins at `start`: the head, or the middle."""
        return self.middle if start else self.head

    @property
    def has_middle(self) -> bool:
        return bool(self.raw.shape[1] > self.width)

    def __len__(self) -> int:
        return len(self.raw)

    def rows(self, which: NDArray[np.integer] | NDArray[np.bool_]) -> "Features":
        """Some of the rows."""
        return Features(self.raw[which], self.width)


def fit(
    images: Features, owners: Owners, photos: Features | None, recipe: Recipe, *, smaller: bool = False
) -> tuple[Projection | None, Vectors]:
    """Fit by a recipe; `smaller`: in fewer dimensions. Returns the projection, and the catalog's rows in its space.

    Without any part, no projection, and the rows as they are.
    """
    if recipe == Recipe():
        return None, images.plain
    shown = photos if recipe.photos else None
    starts = [0] * (recipe.middle != Middle.INSTEAD) + [images.width] * bool(recipe.middle)
    projection = Projection(tuple(_block(start, images, owners, shown, recipe, smaller) for start in starts))
    rows = placed(projection, images, 0)
    if recipe.pull:
        rows = pulled(rows, _means(rows, owners)[owners])
    if shown is None or recipe.photos not in (PhotoUse.ADAPT, PhotoUse.TEACH):
        return projection, rows
    asked = placed(projection, shown, 1)
    rows = normalise(_KEPT * rows + (1 - _KEPT) * _adapted(_means(rows, owners), asked)[owners])
    if recipe.photos == PhotoUse.ADAPT:
        return projection, rows
    taught, products = _taught(asked @ _means(rows, owners).T, shown.middle, images.width)
    return Projection((*projection.blocks, taught)), joined([rows, products[owners]])


def placed(projection: Projection | None, pictures: Features, kind: int) -> Vectors:
    """Map catalog images (0), or photos (1) seen in one view each, into that space."""
    if projection is None:
        return pictures.plain
    return joined([block.apply(pictures.part(block.start), kind) for block in projection.blocks])


def _block(
    start: int, images: Features, owners: Owners, shown: Features | None, recipe: Recipe, smaller: bool
) -> Block:
    """The block of the part of the vectors that begins at `start`."""
    part = images.part(start)
    centre = part.mean(axis=0) if recipe.centre or recipe.photos else np.zeros(part.shape[1], np.float32)
    photo_centre = shown.part(start).mean(axis=0) if shown else centre
    matrix = None
    if recipe.within:
        matrix = whitening(_within(part, owners), _RIDGE)
    elif shown and recipe.photos != PhotoUse.CENTRE:
        matrix = _spread(shown.middle) if start else shown.spread
    if smaller and (part if matrix is None else matrix).shape[1] > DIMENSION and len(part) > 4 * DIMENSION:
        axes = _principal(part, Block(start, centre[None], matrix))
        matrix = axes if matrix is None else matrix @ axes
    means = np.stack([centre, photo_centre]).astype(np.float32)
    return Block(start, means, None if matrix is None else np.ascontiguousarray(matrix, np.float32))


def _taught(likeness: Vectors, middle: Vectors, start: int) -> tuple[Block, Vectors]:
    """Fit the block that assigned photos teach about their middle. `likeness` `(m, products)`: of each photo to each
    product.

    Returns the block, and for each product the mean direction of its photos. A photo has no say in its own assignment.
    """
    centre = middle.mean(axis=0)
    shares = _softmax(_TAUGHT_SHARPNESS * likeness)
    for _ in range(_LESSONS):
        labels = shares.argmax(axis=1)
        block = Block(start, np.stack([centre, centre]), whitening(_within(middle, labels), _RIDGE))
        seen = block.apply(middle, 1)
        sums = shares.T @ seen
        scores = seen @ normalise(sums).T
        every = np.arange(len(middle))
        others = normalise(sums[labels] - shares[every, labels][:, None] * seen)
        scores[every, labels] = (others * seen).sum(axis=1)
        shares = _softmax(_TAUGHT_SHARPNESS * (likeness + scores))
    return block, normalise(shares.T @ seen)


def _adapted(products: Vectors, shown: Vectors) -> Vectors:
    """Move products towards the photos that are nearest to them, softly, in rounds. Returns the points they are drawn
    to."""
    moved, towards = products, products
    for _ in range(_ROUNDS):
        towards = normalise(_softmax(_SHARPNESS * (shown @ moved.T)).T @ shown)
        moved = normalise(_KEPT * products + (1 - _KEPT) * towards)
    return towards


def _softmax(scores: NDArray[np.floating]) -> Vectors:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def _within(rows: Vectors, owners: Owners) -> Vectors:
    """The scatter of rows around the mean of their owner: `(d, d)`."""
    means = np.asarray(_sums(rows, owners) / np.maximum(np.bincount(owners), 1)[:, None], np.float32)
    apart = (rows[block] - means[owners[block]] for block in blocks(len(rows)))
    return np.asarray(_scatter(apart) / len(rows), np.float32)


def _scatter(parts: Iterable[Vectors]) -> Vectors:
    """The sum of the rows' squares `(d, d)`."""
    return np.asarray(reduce(np.add, (part.T @ part for part in parts)), np.float32)


def whitening(scatter: Vectors, ridge: float) -> Vectors:
    """The matrix `(d, d)` of the space in which that scatter is round, but for a ridge of its mean variance."""
    wide = scatter.astype(np.float64)
    wide[np.diag_indices(len(wide))] += max(ridge * np.trace(wide) / len(wide), 1e-12)
    return np.ascontiguousarray(np.linalg.inv(np.linalg.cholesky(wide)).T, np.float32)


def _spread(photos: Vectors) -> Vectors:
    apart = photos - photos.mean(axis=0)
    values, axes = np.linalg.eigh(apart.T @ apart / len(apart))
    kept = np.argsort(-values)[:DIMENSION]
    return np.asarray(axes[:, kept] * np.maximum(values[kept], 1e-9) ** _SPREAD)


def _principal(part: Vectors, block: Block) -> Vectors:
    """The main axes of the vectors that a block makes of catalog images."""
    _, axes = np.linalg.eigh(_scatter(block.apply(part[rows], 0) for rows in blocks(len(part))))
    return np.asarray(axes[:, ::-1][:, :DIMENSION])


def _sums(rows: Vectors, owners: Owners) -> Vectors:
    sums = np.zeros((int(owners.max()) + 1, rows.shape[1]), np.float32)
    np.add.at(sums, owners, rows)
    return sums


def _means(rows: Vectors, owners: Owners) -> Vectors:
    """Each product's mean direction; a number that no row has stays zero."""
    sums = _sums(rows, owners)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9))
