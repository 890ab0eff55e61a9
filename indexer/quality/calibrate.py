"""Estimate a new snapshot's quality without labels, and fit its verdicts, by photos whose product is known.

Where enough products have several images, one half of each product's images is held out and searched for in the other
half. Otherwise simulated phone photos of the products are. Where shoppers' photos were learned from, those set the
verdicts: of what they show nothing is known, but that nearly all of it is in the catalog.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from indexer.ingest.pipeline import Indexed
from indexer.metric.choose import Fold, Metric, folds, sample, several
from indexer.metric.fit import Owners
from indexer.quality.photos import Photos
from indexer.quality.simulated_photo import in_studio
from shared.snapshot.verdicts import QueryKind, Verdict, Verdicts, evidence
from shared.vectors.unit import Vectors

PHOTOS = 64
_LOST = 0.08  # of right answers, about, may be called none
_ALARMS = {Verdict.VARIANT: 0.2, Verdict.SAME: 0.05}
# Real photos give about so much of the evidence of simulated ones: measured between packshots and photos of 81
# groceries (Klasson et al., WACV 2019), in the default network's plain space. For where no real photo was seen.
_REAL = 0.8


class Sample(StrEnum):
    """The photos that a snapshot is measured with."""

    HELD_OUT = "held-out images"
    SIMULATED = "simulated photos"
    USER = "user photos"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of a calibration. `estimate`: R@1, measured `by` that sample; `found`: of each product in it, the
    share of its photos whose first hit was right."""

    estimate: float
    by: Sample
    found: dict[str, float]
    verdicts: dict[QueryKind, Verdicts]


@dataclass(frozen=True, slots=True)
class _Answered:
    """Queries with each product's score `(n, products)`, and the right product `(n,)`."""

    scores: Vectors
    owners: Owners


def calibrate(
    indexed: Indexed,
    metric: Metric,
    photos: Photos,
    picture: Callable[[int], bytes],
    user_photos: Sequence[bytes] = (),
) -> Calibration:
    """Calibrate the result of a run; `metric.vectors` are the rows that will be searched by photos.

    `picture` gives the bytes of the image of a row, `user_photos` some of those learned from.
    """
    rng, groups = np.random.default_rng(0), indexed.groups
    owners = groups.owners
    whole = Fold(np.arange(0), metric.projection, metric.vectors, owners, indexed.plain)
    some = sample(owners)
    if several(owners[some]):
        by = Sample.HELD_OUT
        found, answered, shown = _held_out(indexed, owners, some, metric, photos, picture, rng)
    else:
        by = shown = Sample.SIMULATED
        rows = np.sort(rng.permutation(groups.first)[:PHOTOS])
        answered = _answered(photos.embed([picture(row) for row in rows], simulate=True), owners[rows], whole)
        right = answered.scores.argmax(axis=1) == answered.owners
        found = dict(zip(answered.owners.tolist(), right.astype(float).tolist(), strict=True))
    verdicts = dict[QueryKind, Verdicts]()
    if user_photos:
        asked = _answered(photos.embed(user_photos), np.full(len(user_photos), -1), whole)
        answered, shown = _Answered(asked.scores, asked.scores.argmax(axis=1)), Sample.USER
    if len(answered.owners):
        verdicts[QueryKind.PHOTO] = _of_photos(answered, shown, _REAL if shown == Sample.SIMULATED else 1.0)
    names = {indexed.images[groups.first[owner]].product_id: round(share, 4) for owner, share in found.items()}
    return Calibration(float(np.mean(list(found.values()))) if found else 0.0, by, names, verdicts)


def _held_out(
    indexed: Indexed,
    owners: Owners,
    some: NDArray[np.int64],
    metric: Metric,
    photos: Photos,
    picture: Callable[[int], bytes],
    rng: np.random.Generator,
) -> tuple[dict[int, float], _Answered, Sample]:
    """The share of each product's held-out images that find it; and some of them, searched for as photos are.

    Where most are studio shots, which no phone takes, simulated photos of them are: the last value tells.
    """
    hits: dict[int, list[bool]] = {}
    answered = []
    studio = np.mean([in_studio(picture(int(row))) for row in rng.permutation(some)[:PHOTOS]]) > 0.5
    raw, owners = indexed.raw[some], owners[some]
    for fold in folds(raw, owners, indexed.plain, metric.recipe):
        wanted = owners[fold.asks]
        for owner, right in zip(wanted.tolist(), (fold.first_answers(raw) == wanted).tolist(), strict=True):
            hits.setdefault(owner, []).append(right)
        asks = np.sort(rng.permutation(fold.asks)[: PHOTOS // 2])
        views = photos.embed([picture(int(some[row])) for row in asks], simulate=bool(studio))
        answered.append(_answered(views, owners[asks], fold))
    scores = np.concatenate([part.scores for part in answered])
    found = {owner: float(np.mean(right)) for owner, right in hits.items()}
    shown = Sample.SIMULATED if studio else Sample.HELD_OUT
    return found, _Answered(scores, np.concatenate([part.owners for part in answered])), shown


def _answered(views: Sequence[Vectors | None], owners: Owners, catalog: Fold) -> _Answered:
    kept = [(raw, owner) for raw, owner in zip(views, owners.tolist(), strict=True) if raw is not None]
    asked = [catalog.photo(raw) for raw, _ in kept] or [catalog.rows[:0]]
    return _Answered(catalog.scores(np.concatenate(asked)), np.array([owner for _, owner in kept], np.int64))


def _of_photos(answered: _Answered, shown: Sample, real: float = 1.0) -> Verdicts:
    """Fit thresholds by photos: a right hit against the best wrong one once the right product is taken out.

    The thresholds are taken times `real`; the rates are those of the photos that they were fitted to.
    """
    right = answered.scores.argmax(axis=1) == answered.owners
    absent = answered.scores.copy()
    absent[np.arange(len(absent)), answered.owners] = -1
    alarms = _first_evidence(absent)
    believed = _first_evidence(answered.scores[right]) if right.any() else alarms
    similar = min(np.quantile(believed, _LOST), np.quantile(alarms, 1 - _ALARMS[Verdict.SAME]))
    variant = max(similar, np.quantile(alarms, 1 - _ALARMS[Verdict.VARIANT]))
    same = max(variant, np.quantile(alarms, 1 - _ALARMS[Verdict.SAME]))
    levels = {Verdict.SIMILAR: float(similar), Verdict.VARIANT: float(variant), Verdict.SAME: float(same)}
    return Verdicts(
        **{name: level * real if level > 0 else level for name, level in levels.items()},
        false_alarms={name: round(float((alarms >= level).mean()), 4) for name, level in levels.items()},
        lost=round(float((believed < similar).mean()), 4),
        fitted_on=f"{len(alarms)} {shown}",
    )


def _first_evidence(scores: Vectors) -> Vectors:
    """The evidence for each query's first hit."""
    return np.array([evidence(row)[0] for row in -np.sort(-scores, axis=1)[:, :2]], np.float32)
