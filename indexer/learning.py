"""What a catalog teaches about its own likeness: fits the `Projection`, in seconds of linear algebra.

Two teachers, either or both: products with several images show which differences do not matter, and unlabelled user
photos show how photos differ from packshots. Every part is fitted on one half of the material and judged on the other,
and left out unless it wins there; what is kept is then fitted on all of it.

- `centre`: subtract the catalog's mean.
- `within`: whiten by the scatter within products (linear discriminant analysis; ridge as in Friedman, "Regularized
  Discriminant Analysis", JASA 1989).
- `pull`: draw each image towards its product's mean (the nearest class mean of Mensink et al., TPAMI 2013, in part).
- `photos`: how photos are used: `centre` them on their own mean, `whiten` by their spread, `adapt` the catalog's
  vectors to the photos assigned to them (soft k-means that starts from the catalog), `refine` by a discriminant of
  those assignments.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.projection import Projection, rooted
from shared.vectors import Vectors, normalise

Owners = NDArray[np.int64]

DIMENSION = 256
_FEW = 20  # products with several images
ENOUGH_PHOTOS = 200  # below these, nothing is learned from them
_PHOTOS_EACH = 5
_MOST = 4000  # rows that are enough to judge and to fit by
_GAIN = 0.002
_RIDGE, _PULL, _SPREAD = 0.3, 0.8, -0.15
_ROUNDS, _SHARPNESS, _KEPT = 12, 10.0, 0.5
_REFINED_SHARPNESS, _REFINED_RIDGE = 30.0, 3.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which parts are used."""

    centre: bool = False
    within: bool = False
    pull: bool = False
    photos: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """`vectors` `(n, k)`: the catalog's rows in the learned space; `report`: which parts won, and by how much."""

    projection: Projection
    vectors: Vectors
    report: dict[str, Any]

    @property
    def recipe(self) -> Recipe:
        """The parts that products alone can judge: all but `photos`."""
        return replace(Recipe(**self.report["parts"]), photos="")


@dataclass(frozen=True, slots=True)
class Fold:
    """A catalog without the images `asks` (row numbers): the others' `rows` `(n, k)` and `owners`, in the space that
    they teach without them."""

    asks: NDArray[np.int64]
    projection: Projection | None
    rows: Vectors
    owners: Owners

    def scores(self, queries: Vectors) -> Vectors:
        """Unit vectors `(m, k)` -> the score of each product `(m, products)`."""
        starts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        best = np.full((len(queries), int(self.owners[-1]) + 1), -1, np.float32)
        best[:, self.owners[starts]] = np.maximum.reduceat(queries @ self.rows.T, starts, axis=1)
        return best


def folds(raw: Vectors, owners: Owners, recipe: Recipe | None) -> list[Fold]:
    """Two folds; in each one half of every product that has several images is held out, the hard way.

    The halves are cut across the product's main direction, so that near copies of one shot fall on one side. Rows must
    be grouped by product. Without a recipe, vectors are as the network gives them.
    """
    images = rooted(raw) if recipe else normalise(raw)
    side = _halves(images, owners)
    found = []
    for held in (0, 1):
        rest = side != held
        if recipe:
            projection, rows = _fit(images[rest], owners[rest], None, recipe)
            found.append(Fold(np.flatnonzero(~rest), projection, rows, owners[rest]))
        else:
            found.append(Fold(np.flatnonzero(~rest), None, images[rest], owners[rest]))
    return found


def sample(owners: Owners) -> NDArray[np.int64]:
    """The rows of some whole products, enough to judge and to fit by."""
    if len(owners) <= _MOST:
        return np.arange(len(owners))
    products = np.random.default_rng(0).permutation(int(owners.max()) + 1)
    chosen = products[: np.searchsorted(np.cumsum(np.bincount(owners)[products]), _MOST) + 1]
    return np.flatnonzero(np.isin(owners, chosen))


def several(owners: Owners) -> bool:
    """Whether enough products have several images to learn and to judge by."""
    return bool(np.count_nonzero(np.bincount(owners) > 1) >= _FEW)


def learn(raw: Vectors, owners: Owners, photos: Vectors | None = None) -> Learned:
    """Learn from a catalog's raw vectors `(n, d)`, the number of each one's product `(n,)`, and raw vectors of
    unlabelled photos `(m, d)`."""
    images = rooted(raw)
    shown = rooted(photos) if photos is not None and len(photos) >= ENOUGH_PHOTOS else None
    recipe, figures = Recipe(), dict[str, float]()
    some = sample(owners)
    if several(owners[some]):
        parts = [{"centre": True}, {"within": True}, {"pull": True}]
        recipe = _climb(recipe, parts, lambda trial: _found(raw[some], owners[some], trial), figures)
    if shown is not None:
        shown = shown[np.random.default_rng(0).permutation(len(shown))[:_MOST]]
        # To follow the photos, products need some of their own.
        enough = len(shown) >= _PHOTOS_EACH * (int(owners.max()) + 1)
        ways = [{"photos": way} for way in ("centre", "whiten", "adapt", "refine")[: 4 if enough else 2]]
        recipe = _climb(recipe, ways, lambda trial: _agreed(images[some], owners[some], shown, trial), figures)
    projection, vectors = _fit(images, owners, shown, recipe)
    return Learned(projection, vectors, {"parts": asdict(recipe), "judged": figures})


def _climb(
    recipe: Recipe, parts: Iterable[dict[str, Any]], judge: Callable[[Recipe], float], figures: dict[str, float]
) -> Recipe:
    """Take in one part after another, where the judge finds it better than what was best before."""
    best = judge(recipe)
    for part in parts:
        trial = replace(recipe, **part)
        figure = judge(trial)
        figures[" ".join(f"{name}={value}" for name, value in part.items())] = round(figure - best, 4)
        if figure > best + _GAIN:
            recipe, best = trial, figure
    return recipe


def _found(raw: Vectors, owners: Owners, recipe: Recipe) -> float:
    """How often an image that was held out finds its product first."""
    right = []
    for fold in folds(raw, owners, recipe):
        assert fold.projection
        queries = normalise((rooted(raw[fold.asks]) - fold.projection.means[1]) @ fold.projection.matrix)
        right.append(fold.owners[(queries @ fold.rows.T).argmax(axis=1)] == owners[fold.asks])
    return float(np.concatenate(right).mean())


def _agreed(images: Vectors, owners: Owners, photos: Vectors, recipe: Recipe) -> float:
    """How well held-out photos that look alike agree on their product, without any label.

    Cohen's kappa of their first answers times the logarithm of how many products are answered: agreement alone would
    praise a space in which a few products answer everything. Fitted on one half of the photos, judged on the other.
    """
    half = len(photos) // 2
    shown, held = photos[:half], photos[half:]
    projection, rows = _fit(images, owners, shown, recipe)
    queries = normalise((held - projection.means[1]) @ projection.matrix)
    answers = owners[(queries @ rows.T).argmax(axis=1)]
    alike = held @ held.T
    np.fill_diagonal(alike, -1)
    near = np.argsort(-alike, axis=1)[:, 2:8]  # past the very nearest, which are often the same shot twice
    agreement = float((answers[near] == answers[:, None]).mean())
    shares = np.bincount(answers) / len(answers)
    chance = float((shares**2).sum())
    return (agreement - chance) / max(1 - chance, 1e-9) * float(np.log(1 / chance))


def _fit(images: Vectors, owners: Owners, photos: Vectors | None, recipe: Recipe) -> tuple[Projection, Vectors]:
    """Fit by a recipe. Returns the projection and the catalog's rows in its space."""
    dimension = images.shape[1]
    centre = images.mean(axis=0) if recipe.centre or recipe.photos else np.zeros(dimension, np.float32)
    photo_centre = photos.mean(axis=0) if photos is not None and recipe.photos else centre
    centred = images - centre
    if recipe.within:
        matrix = _whitening(_within(centred, owners), _RIDGE)
    elif photos is not None and recipe.photos not in ("", "centre"):
        matrix = _spread(photos - photo_centre)
    else:
        matrix = np.eye(dimension, dtype=np.float32)
    if matrix.shape[1] > DIMENSION and len(images) > 4 * DIMENSION:
        matrix = matrix @ _principal(normalise(centred @ matrix))
    if photos is not None and recipe.photos in ("adapt", "refine"):
        shown = normalise((photos - photo_centre) @ matrix)
        rows = _pulled(normalise(centred @ matrix), owners, recipe)
        if recipe.photos == "refine":
            shares = _shares(shown, _adapted(_means(rows, owners), shown), _REFINED_SHARPNESS)
            matrix = matrix @ _whitening(_within_shares(shown, shares), _REFINED_RIDGE)
            shown = normalise((photos - photo_centre) @ matrix)
            rows = _pulled(normalise(centred @ matrix), owners, recipe)
        towards = _adapted(_means(rows, owners), shown, final=True)
        rows = normalise(_KEPT * rows + (1 - _KEPT) * towards[owners])
    else:
        rows = _pulled(normalise(centred @ matrix), owners, recipe)
    means = np.stack([centre, photo_centre]).astype(np.float32)
    return Projection(means, matrix.astype(np.float32)), rows


def _within(centred: Vectors, owners: Owners) -> Vectors:
    """The scatter of images around their product's mean: `(d, d)`."""
    apart = centred - _sums(centred, owners)[owners] / np.bincount(owners)[owners][:, None]
    return np.asarray(apart.T @ apart / len(apart))


def _within_shares(shown: Vectors, shares: Vectors) -> Vectors:
    """The same for photos that belong to products in shares `(m, products)`."""
    weights = shares.sum(axis=0)
    means = (shares.T @ shown) / np.maximum(weights, 1e-9)[:, None]
    return np.asarray((shown.T @ shown - (means * weights[:, None]).T @ means) / len(shown))


def _whitening(scatter: Vectors, ridge: float) -> Vectors:
    values, axes = np.linalg.eigh(scatter)
    return np.asarray(axes / np.sqrt(np.maximum(values, 0) + ridge * values.mean()))


def _spread(photos: Vectors) -> Vectors:
    """The photos' main axes, the strong ones damped a little."""
    values, axes = np.linalg.eigh(photos.T @ photos / len(photos))
    kept = np.argsort(-values)[:DIMENSION]
    return np.asarray(axes[:, kept] * np.maximum(values[kept], 1e-9) ** _SPREAD)


def _principal(rows: Vectors) -> Vectors:
    _, axes = np.linalg.eigh(rows.T @ rows)
    return np.asarray(axes[:, ::-1][:, :DIMENSION])


def _sums(rows: Vectors, owners: Owners) -> Vectors:
    sums = np.zeros((int(owners.max()) + 1, rows.shape[1]), np.float32)
    np.add.at(sums, owners, rows)
    return sums


def _means(rows: Vectors, owners: Owners) -> Vectors:
    """Each product's mean direction; a number that no row has stays zero."""
    sums = _sums(rows, owners)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9))


def _pulled(rows: Vectors, owners: Owners, recipe: Recipe) -> Vectors:
    return normalise((1 - _PULL) * rows + _PULL * _means(rows, owners)[owners]) if recipe.pull else rows


def _adapted(products: Vectors, shown: Vectors, final: bool = False) -> Vectors:
    """Move products towards the photos that are nearest to them, softly, in rounds.

    `final` returns the photos' means instead: where a product is drawn to.
    """
    moved, towards = products, products
    for _ in range(_ROUNDS):
        shares = _shares(shown, moved, _SHARPNESS)
        towards = normalise(shares.T @ shown)
        moved = normalise(_KEPT * products + (1 - _KEPT) * towards)
    return towards if final else moved


def _shares(shown: Vectors, products: Vectors, sharpness: float) -> Vectors:
    """The share of each product in each photo `(m, products)`: a softmax of the cosines."""
    scores = sharpness * (shown @ products.T)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


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
