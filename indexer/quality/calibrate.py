"""How good is a new snapshot, without a label, and what do its scores mean? Judged by photos whose answer is known.

Where enough products have several images, one half of each product's images is held out and asks the other half.
Otherwise simulated phone photos of the products ask. Where shoppers' photos were learned from, those set the verdicts:
of what they show nothing is known, but that nearly all of it is in the catalog.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.ingest.cache import Cache, content_hash
from indexer.ingest.pipeline import Indexed
from indexer.metric.choose import Fold, Learned, folds, sample, several
from indexer.metric.fit import Owners, Recipe
from indexer.progress import Bar
from indexer.quality.simulated_photo import in_studio, photographed
from shared.embedding.embedder import Embedder
from shared.images.decode import MAX_EDGE, decode
from shared.refusals import Refusal
from shared.snapshot.verdicts import Verdicts, evidence
from shared.vectors.unit import Vectors, normalise, usable

PHOTOS_ASKED = 64
_TOGETHER = 4  # photos, of four views each: a batch
_LOST = 0.08  # of right answers, about, may be called none
_ALARMS = {"variant": 0.2, "same": 0.05}
# Real photos give about so much of the evidence of simulated ones: measured between packshots and photos of 81
# groceries (Klasson et al., WACV 2019), in the default network's plain space. For where no real photo was seen.
_REAL = 0.8
_PAIRS = {"similar": 0.05, "variant": 0.005}


@dataclass(frozen=True, slots=True)
class Judged:
    """`found`: of each product that was asked for, the share of its questions whose first answer was right."""

    estimate: float
    by: str
    found: dict[str, float]
    verdicts: dict[str, Verdicts]

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        verdicts = {question: asdict(verdict) for question, verdict in self.verdicts.items()}
        return {"estimate": round(self.estimate, 4), "estimated_by": self.by, "verdicts": verdicts}


@dataclass(frozen=True, slots=True)
class _Answered:
    """Questions that were asked: each product's score `(n, products)`, and the right product `(n,)`."""

    scores: Vectors
    owners: Owners


class Photos:
    """Pictures seen as a photo is seen, through the cache, so that a second run embeds nothing."""

    def __init__(self, embedder: Embedder, cache: Cache, *, several: bool) -> None:
        self._embedder, self._cache, self._several = embedder, cache, several
        self._views = embedder.spec.views if several else 1

    def embed(self, pictures: Sequence[bytes], *, simulate: bool = False) -> list[Vectors | None]:
        """The raw vectors of each picture's views `(views, d)`; None where it cannot be read."""
        keys = [f"{content_hash(data)} {'simulated' if simulate else 'as photo'} {self._views}" for data in pictures]
        with Bar("photos to judge by", len(pictures)) as bar:
            for at in range(0, len(pictures), _TOGETHER):
                some = dict(zip(keys[at : at + _TOGETHER], pictures[at : at + _TOGETHER], strict=True))
                self._fill(some, simulate)
                bar.advance(len(some))
        return list(map(self._kept, keys))

    def _fill(self, pictures: Mapping[str, bytes], simulate: bool) -> None:
        """Embed together those of the pictures that the cache has not."""
        spec = self._embedder.spec
        edge = MAX_EDGE if simulate else spec.edge(self._several)
        seen_as = {}
        for key, data in pictures.items():
            if self._cache.has_vector(spec.fingerprint, key) or isinstance(picture := decode(data, edge=edge), Refusal):
                continue
            if simulate:
                picture = photographed(picture, np.random.default_rng(int(key[:8], 16)))
            seen_as[key] = spec.seen(picture, self._several)
        if not seen_as:
            return
        raw = self._embedder.embed(np.concatenate(list(seen_as.values())))
        for key, own in zip(seen_as, np.split(raw, len(seen_as)), strict=True):
            if usable(normalise(own)).all():
                self._cache.put_vectors(spec.fingerprint, [key], own.reshape(1, -1))

    def _kept(self, key: str) -> Vectors | None:
        spec = self._embedder.spec
        if not self._cache.has_vector(spec.fingerprint, key):
            return None
        return self._cache.vectors(spec.fingerprint, [key], self._views * spec.dimension).reshape(-1, spec.dimension)


def judge(
    done: Indexed,
    owners: Owners,
    vectors: Vectors,
    learned: Learned | None,
    photos: Photos,
    picture: Callable[[int], bytes],
    user_photos: Sequence[bytes] = (),
) -> Judged:
    """Judge what a run has made, `vectors` being the rows that will be searched.

    `picture` gives the bytes of the image of a row, `user_photos` some of those learned from.
    """
    rng = np.random.default_rng(0)
    whole = Fold(np.arange(0), learned.projection if learned else None, vectors, owners, done.plain)
    some = sample(owners)
    if several(owners[some]):
        by = "held-out images"
        found, answered, simulated = _held_out(done, owners, some, learned, photos, picture, rng)
    else:
        by, simulated = "simulated photos", True
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        rows = np.sort(rng.permutation(starts)[:PHOTOS_ASKED])
        answered = _answered(photos.embed([picture(row) for row in rows], simulate=True), owners[rows], whole)
        right = answered.scores.argmax(axis=1) == answered.owners
        found = dict(zip(answered.owners.tolist(), right.astype(float).tolist(), strict=True))
    names = {int(owner): image.product_id for owner, image in zip(owners, done.images, strict=True)}
    by_name = {names[owner]: round(share, 4) for owner, share in found.items()}
    estimate = float(np.mean(list(found.values()))) if found else 0.0
    verdicts = {"product": _among_products(vectors, owners, answered, by)}
    fitted_on = "simulated photos" if simulated else by
    if user_photos:
        shown = _answered(photos.embed(user_photos), np.full(len(user_photos), -1), whole)
        answered, fitted_on = _Answered(shown.scores, shown.scores.argmax(axis=1)), "user photos"
    if len(answered.owners):
        verdicts["photo"] = _of_photos(answered, fitted_on, _REAL if fitted_on == "simulated photos" else 1.0)
    return Judged(estimate, by, by_name, verdicts)


def _held_out(
    done: Indexed,
    owners: Owners,
    some: NDArray[np.int64],
    learned: Learned | None,
    photos: Photos,
    picture: Callable[[int], bytes],
    rng: np.random.Generator,
) -> tuple[dict[int, float], _Answered, bool]:
    """Of each product the share of its held-out images that find it; and some of them, asked as photos are.

    Where most are studio shots, which no phone takes, simulated photos of them are asked: the last value.
    """
    hits: dict[int, list[bool]] = {}
    answered = []
    studio = np.mean([in_studio(picture(int(row))) for row in rng.permutation(some)[:PHOTOS_ASKED]]) > 0.5
    raw, owners = done.raw[some], owners[some]
    for fold in folds(raw, owners, done.plain, learned.recipe if learned else Recipe()):
        wanted = owners[fold.asks]
        for owner, right in zip(wanted.tolist(), (fold.first_answers(raw) == wanted).tolist(), strict=True):
            hits.setdefault(owner, []).append(right)
        asks = np.sort(rng.permutation(fold.asks)[: PHOTOS_ASKED // 2])
        views = photos.embed([picture(int(some[row])) for row in asks], simulate=bool(studio))
        answered.append(_answered(views, owners[asks], fold))
    scores = np.concatenate([part.scores for part in answered])
    found = {owner: float(np.mean(right)) for owner, right in hits.items()}
    return found, _Answered(scores, np.concatenate([part.owners for part in answered])), bool(studio)


def _answered(views: Sequence[Vectors | None], owners: Owners, catalog: Fold) -> _Answered:
    kept = [(raw, owner) for raw, owner in zip(views, owners.tolist(), strict=True) if raw is not None]
    asked = [catalog.photo(raw) for raw, _ in kept] or [catalog.rows[:0]]
    return _Answered(catalog.scores(np.concatenate(asked)), np.array([owner for _, owner in kept], np.int64))


def _of_photos(answered: _Answered, fitted_on: str, real: float = 1.0) -> Verdicts:
    """Thresholds by photos: a right answer against the best wrong one once the right product is taken out.

    The thresholds are taken times `real`; the rates are those of the photos that they were fitted to.
    """
    right = answered.scores.argmax(axis=1) == answered.owners
    absent = answered.scores.copy()
    absent[np.arange(len(absent)), answered.owners] = -1
    alarms = _first_evidence(absent)
    believed = _first_evidence(answered.scores[right]) if right.any() else alarms
    similar = min(np.quantile(believed, _LOST), np.quantile(alarms, 1 - _ALARMS["same"]))
    variant = max(similar, np.quantile(alarms, 1 - _ALARMS["variant"]))
    same = max(variant, np.quantile(alarms, 1 - _ALARMS["same"]))
    levels = {"similar": float(similar), "variant": float(variant), "same": float(same)}
    return Verdicts(
        **{name: level * real if level > 0 else level for name, level in levels.items()},
        false_alarms={name: round(float((alarms >= level).mean()), 4) for name, level in levels.items()},
        lost=round(float((believed < similar).mean()), 4),
        fitted_on=f"{len(alarms)} {fitted_on}",
    )


def _first_evidence(scores: Vectors) -> Vectors:
    """Of each question the evidence for its first answer."""
    return np.array([evidence(row)[0] for row in -np.sort(-scores, axis=1)[:, :2]], np.float32)


def _among_products(vectors: Vectors, owners: Owners, answered: _Answered, by: str) -> Verdicts:
    """Thresholds for product -> products: as near as few pairs of products are, or as one product's own pictures."""
    some = sample(owners)[:2000]
    pairs = vectors[some] @ vectors[some].T
    others = pairs[owners[some][:, None] != owners[some][None, :]]
    if not len(others):
        others = np.zeros(1, np.float32)
    similar, variant = (float(np.quantile(others, 1 - share)) for share in _PAIRS.values())
    own = answered.scores[np.arange(len(answered.owners)), answered.owners]
    same = max(variant, float(np.median(own))) if len(own) else variant
    levels = {"similar": similar, "variant": variant, "same": same}
    alarms = {name: round(float((others >= level).mean()), 6) for name, level in levels.items()}
    return Verdicts(**levels, false_alarms=alarms, lost=0.0, fitted_on=f"pairs of products, and {by}")
