"""Choose the metric that a catalog teaches, in seconds of linear algebra: which parts of the recipe in `fit` are used.

Two teachers, either or both: products with several images show which differences do not matter, and unlabelled user
photos show how photos differ from packshots. Every part is fitted on one half of the material and judged on the other,
and left out unless it wins there; what is kept is then fitted on all of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.metric.fit import Features, Owners, fit, placed
from shared.snapshot.manifest import LearnedPart, Middle, PhotoUse, Recipe
from shared.vectors.projection import Projection, photo_vector, rooted
from shared.vectors.unit import Vectors, normalise

ENOUGH_PHOTOS = 200  # below these, nothing is learned from them
_FEW = 20  # products with several images, below which nothing is learned from them
_PHOTOS_EACH, _COVERED = 5, 0.35
_MOST = 4000  # rows that are enough to judge and to fit by
_GAIN = 0.002
_MUCH = 0.01  # for the head to come back beside a middle that surpasses it: held-out images flatter the head a little


@dataclass(frozen=True, slots=True)
class Metric:
    """The space that is searched: `vectors` `(n, k)`, the catalog's unit vectors in it, and the `learned` parts, None
    for plain vectors."""

    projection: Projection | None
    vectors: Vectors
    learned: LearnedPart | None = None

    @classmethod
    def plain(cls, raw: Vectors, width: int) -> "Metric":
        """The network's own space: the first `width` values of raw vectors `(n, d)`."""
        return cls(None, normalise(raw[:, :width]))

    @property
    def recipe(self) -> Recipe:
        """The parts that products alone can judge."""
        return without_photos(self.learned)


def without_photos(learned: LearnedPart | None) -> Recipe:
    """The parts of a learned metric that products alone can judge: all but `photos`."""
    return replace(learned.parts, photos=PhotoUse.UNUSED) if learned else Recipe()


@dataclass(frozen=True, slots=True)
class Fold:
    """A catalog without the held-out images `asks` (row numbers): the others' `rows` `(n, k)` and `owners`, in the
    space that they teach without them. `plain`: how many values of a raw vector are its head."""

    asks: NDArray[np.int64]
    projection: Projection | None
    rows: Vectors
    owners: Owners
    plain: int

    def photo(self, raw: Vectors) -> Vectors:
        """Map the raw vectors of one photo's views `(views, d)` to its unit vector `(1, k)`."""
        return photo_vector(self.projection, raw, self.plain)

    def first_answers(self, raw: Vectors) -> Owners:
        """The product that each held-out image finds first; `raw` `(n, d)` is the whole catalog's."""
        return _answers(placed(self.projection, Features(raw[self.asks], self.plain), 1), self.rows, self.owners)

    def scores(self, queries: Vectors) -> Vectors:
        """Map unit vectors `(m, k)` to the score of each product `(m, products)`."""
        starts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        best = np.full((len(queries), int(self.owners[-1]) + 1), -1, np.float32)
        best[:, self.owners[starts]] = np.maximum.reduceat(queries @ self.rows.T, starts, axis=1)
        return best


def folds(raw: Vectors, owners: Owners, plain: int, recipe: Recipe) -> list[Fold]:
    """Two folds; each holds out one half of every product that has several images, cut across their main direction.

    The halves are cut across the product's main direction, so that near copies of one shot fall on one side. Rows must
    be grouped by product.
    """
    return _folds(raw, owners, plain, recipe, _halves(rooted(raw[:, :plain]), owners))


def _folds(raw: Vectors, owners: Owners, plain: int, recipe: Recipe, side: NDArray[np.int64]) -> list[Fold]:
    images = Features(raw, plain)
    found = []
    for held in (0, 1):
        rest = side != held
        projection, rows = fit(images.rows(rest), owners[rest], None, recipe)
        found.append(Fold(np.flatnonzero(~rest), projection, rows, owners[rest], plain))
    return found


def sample(owners: Owners) -> NDArray[np.int64]:
    """The rows of some whole products, enough to judge and to fit by."""
    if len(owners) <= _MOST:
        return np.arange(len(owners))
    products = np.random.default_rng(0).permutation(int(owners.max()) + 1)
    chosen = products[: np.searchsorted(np.cumsum(np.bincount(owners)[products]), _MOST) + 1]
    return np.flatnonzero(np.isin(owners, chosen))


def several(owners: Owners) -> bool:
    """Tell whether enough products have several images to learn and to judge by."""
    return bool(np.count_nonzero(np.bincount(owners) > 1) >= _FEW)


def learn(raw: Vectors, owners: Owners, plain: int, photos: Vectors | None = None) -> Metric:
    """Learn from a catalog's raw vectors `(n, d)`, whose first `plain` values are the head, the number of each one's
    product `(n,)`, and raw vectors of unlabelled photos `(m, d)`."""
    images = Features(raw, plain)
    recipe, figures = Recipe(root=_signed(images)), dict[str, float]()
    some = sample(owners)
    few, few_owners = images.rows(some), owners[some]
    if several(few_owners):
        side = _halves(few.head, few_owners)
        judge = cache(partial(_found, raw[some], few_owners, plain, side))
        recipe = _climb(recipe, [{"centre": True}, {"centre": True, "within": True}], judge, figures)
        if few.has_middle:
            recipe = _climb(recipe, [{"middle": Middle.INSTEAD}], judge, figures)
            recipe = _climb(recipe, [{"middle": Middle.BESIDE}], judge, figures, _MUCH if recipe.middle else _GAIN)
        recipe = _climb(recipe, [{"pull": True}], judge, figures)
    shown = None
    if photos is not None and len(photos) >= ENOUGH_PHOTOS:
        shown = Features(photos[np.random.default_rng(0).permutation(len(photos))[:_MOST]], plain)
        # Centring on the photos' own mean is not judged: agreement cannot tell a space with an offset from one without.
        recipe = replace(recipe, photos=PhotoUse.CENTRE)
        ways = [{"photos": way} for way in _ways(few, few_owners, shown, recipe)]
        half = np.arange(len(shown)) < len(shown) // 2
        taught, held = shown.rows(half), shown.rows(~half)
        recipe = _climb(recipe, ways, lambda trial: _agreed(few, few_owners, taught, held, trial), figures)
    projection, vectors = fit(images, owners, shown, recipe, smaller=True)
    return Metric(projection, vectors, LearnedPart(recipe, figures))


def _climb(
    recipe: Recipe,
    parts: Iterable[Mapping[str, Any]],
    judge: Callable[[Recipe], float],
    figures: dict[str, float],
    gain: float = _GAIN,
) -> Recipe:
    """Add one part after another if the judge finds it better than the best before."""
    best = judge(recipe)
    for part in parts:
        trial = replace(recipe, **part)
        figure = judge(trial)
        figures[" ".join(f"{name}={value}" for name, value in part.items())] = round(figure - best, 4)
        if figure > best + gain:
            recipe, best = trial, figure
    return recipe


def _signed(images: Features) -> bool:
    """True where the head has values of both signs, so that its roots are better than its values."""
    return bool((images.raw[:_MOST, : images.width] < 0).any())


def _found(raw: Vectors, owners: Owners, plain: int, side: NDArray[np.int64], recipe: Recipe) -> float:
    """The share of held-out images that find their product first."""
    right = [fold.first_answers(raw) == owners[fold.asks] for fold in _folds(raw, owners, plain, recipe, side)]
    return float(np.concatenate(right).mean())


def _ways(images: Features, owners: Owners, shown: Features, recipe: Recipe) -> list[PhotoUse]:
    """The ways to use photos that may be tried beyond centring.

    To follow photos, products need some of their own: photos of a few products only would draw all to those, and their
    own agreement would praise it.
    """
    projection, rows = fit(images, owners, shown, recipe)
    shares = _shares(_answers(placed(projection, shown, 1), rows, owners))
    products = len(np.unique(owners))
    if len(shown) < _PHOTOS_EACH * products or 1 / (shares**2).sum() < _COVERED * products:
        return [PhotoUse.WHITEN]
    return [PhotoUse.WHITEN, PhotoUse.ADAPT] + [PhotoUse.TEACH] * (shown.has_middle and not recipe.middle)


def _agreed(images: Features, owners: Owners, photos: Features, held: Features, recipe: Recipe) -> float:
    """Measure how well `held` photos that look alike agree on their product, without any label.

    Cohen's kappa of their first answers times the logarithm of how many products are answered: agreement alone would
    praise a space in which a few products answer everything. Fitted on other `photos`.
    """
    projection, rows = fit(images, owners, photos, recipe)
    answers = _answers(placed(projection, held, 1), rows, owners)
    alike = held.head @ held.head.T
    np.fill_diagonal(alike, -1)
    near = np.argsort(-alike, axis=1)[:, 2:8]  # past the very nearest, which are often the same shot twice
    agreed = float((answers[near] == answers[:, None]).mean())
    chance = float((_shares(answers) ** 2).sum())
    return (agreed - chance) / max(1 - chance, 1e-9) * float(np.log(1 / chance))


def _answers(queries: Vectors, rows: Vectors, owners: Owners) -> Owners:
    return np.asarray(owners[(queries @ rows.T).argmax(axis=1)])


def _shares(answers: Owners) -> Vectors:
    """The share of each product among the answers."""
    return np.asarray(np.bincount(answers) / len(answers))


def _halves(images: Vectors, owners: Owners) -> NDArray[np.int64]:
    """0 or 1 for each image of a product that has several, cut across its main direction; -1 for single images."""
    side = np.full(len(images), -1)
    for product in np.flatnonzero(np.bincount(owners) > 1):
        mine = np.flatnonzero(owners == product)
        apart = images[mine] - images[mine].mean(axis=0)
        _, axes = np.linalg.eigh(apart @ apart.T)
        order = np.argsort(np.argsort(axes[:, -1], kind="stable"), kind="stable")
        side[mine] = order * 2 // len(mine)
    return side
