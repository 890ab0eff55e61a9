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
from indexer.quality.photos import EmbeddedPhoto, Photos, Shot
from indexer.quality.simulated_photo import in_studio
from shared.search.photo_query import clearest
from shared.snapshot.manifest import WindowsPart
from shared.snapshot.verdicts import COMPARED, QueryKind, Verdict, Verdicts, evidence
from shared.vectors.unit import Vectors

PHOTOS = 64
_AFAR, _WINS = 24, 0.02  # simulated photos in which the thing is small; R@1
_CLEARLY = 1.2  # times the spread of the evidence for what is not there
_LOST = 0.08  # of right answers, about, may be called none
_ALARMS = {Verdict.VARIANT: 0.2, Verdict.SAME: 0.05}
# Real photos give about so much of the evidence of simulated ones: measured between packshots and photos of 81
# groceries (Klasson et al., WACV 2019), in the default network's plain space. For where no real photo was seen.
_REAL = 0.62


class Sample(StrEnum):
    """The photos that a snapshot is measured with."""

    HELD_OUT = "held-out images"
    SIMULATED = "simulated photos"
    USER = "user photos"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of a calibration. `estimate`: R@1, measured `by` that sample; `found`: of each product in it, the
    share of its photos whose first hit was right. `windows` is None if photos are seen in one view."""

    estimate: float
    by: Sample
    found: dict[str, float]
    verdicts: dict[QueryKind, Verdicts]
    windows: WindowsPart | None = None


@dataclass(frozen=True, slots=True)
class _Answered:
    """Photos with each product's score by their views, and then by each window `(1 + windows, products)`; and the right
    product `(n,)`."""

    scores: Sequence[Vectors]
    owners: Owners

    def believed(self, windows: WindowsPart | None, *, absent: bool = False) -> Vectors:
        """The scores `(n, products)` of the query that is made of each photo: of its views, if these are sure, or
        windows are not looked at; else of what is `clearest`. `absent`: with the right product taken out."""
        chosen = []
        for scores, owner in zip(self.scores, self.owners.tolist(), strict=True):
            if absent:
                scores = np.delete(scores, owner, axis=1)
            weights = _first_evidence(scores)
            unsure = windows is not None and weights[0] < windows.sure
            chosen.append(scores[clearest(weights, windows.margin) if windows and unsure else 0])
        return np.array(chosen, np.float32)

    def right(self, windows: WindowsPart | None) -> NDArray[np.bool_]:
        """True where the first hit is the right product."""
        return np.array(self.believed(windows).argmax(axis=1) == self.owners)


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
    rows = np.sort(rng.permutation(groups.first)[:PHOTOS])
    held_out = several(owners[some])
    if held_out:
        by = Sample.HELD_OUT
        found, answered, shown = _held_out(indexed, owners, some, metric, photos, picture, rng)
    else:
        by = shown = Sample.SIMULATED
        answered = _answered(photos.embed([picture(row) for row in rows], Shot.CLOSE), owners[rows], whole)
    windows = None
    if metric.learned and len(answered.owners):
        afar = photos.embed([picture(row) for row in rows[:_AFAR]], Shot.AFAR)
        windows = _judged_windows(answered, _answered(afar, owners[rows[:_AFAR]], whole))
    used = windows if windows and windows.used else None
    if not held_out:
        found = dict(zip(answered.owners.tolist(), answered.right(used).astype(float).tolist(), strict=True))
    verdicts = dict[QueryKind, Verdicts]()
    if user_photos:
        asked = _answered(photos.embed(user_photos), np.zeros(len(user_photos), np.int64), whole)
        answered, shown = _Answered(asked.scores, asked.believed(used).argmax(axis=1)), Sample.USER
    if len(answered.owners):
        verdicts[QueryKind.PHOTO] = _of_photos(answered, used, shown, _REAL if shown == Sample.SIMULATED else 1.0)
    names = {indexed.images[groups.first[owner]].product_id: round(share, 4) for owner, share in found.items()}
    return Calibration(float(np.mean(list(found.values()))) if found else 0.0, by, names, verdicts, windows)


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
        shot = Shot.CLOSE if studio else Shot.AS_IT_IS
        shown = photos.embed([picture(int(some[row])) for row in asks], shot)
        answered.append(_answered(shown, owners[asks], fold))
    scores = [of_photo for part in answered for of_photo in part.scores]
    found = {owner: float(np.mean(right)) for owner, right in hits.items()}
    sample_of = Sample.SIMULATED if studio else Sample.HELD_OUT
    return found, _Answered(scores, np.concatenate([part.owners for part in answered])), sample_of


def _answered(photos: Sequence[EmbeddedPhoto | None], owners: Owners, catalog: Fold) -> _Answered:
    """Search a catalog by photos; those that could not be read are left out."""
    kept = [(photo, owner) for photo, owner in zip(photos, owners.tolist(), strict=True) if photo]
    asked = [[catalog.photo(photo.views), *map(catalog.photo, photo.windows[:, None])] for photo, _ in kept]
    scores = [catalog.scores(np.concatenate(queries)) for queries in asked]
    return _Answered(scores, np.array([owner for _, owner in kept], np.int64))


def _judged_windows(close: _Answered, afar: _Answered) -> WindowsPart:
    """Judge whether windows are looked at: they must win for photos from afar, and lose nothing for others."""
    alarms = _first_evidence(close.believed(None, absent=True))
    sure, margin = float(np.quantile(alarms, 1 - _ALARMS[Verdict.SAME])), _CLEARLY * float(alarms.std())
    trial, judged = WindowsPart(True, sure, margin), {}
    for name, answered in (("close", close), ("afar", afar)):
        judged[name] = round(float(answered.right(None).mean()), 4) if len(answered.owners) else 0.0
        judged[f"{name}, windows"] = round(float(answered.right(trial).mean()), 4) if len(answered.owners) else 0.0
    used = judged["afar, windows"] > judged["afar"] + _WINS and judged["close, windows"] >= judged["close"]
    return WindowsPart(used, sure, margin, judged)


def _of_photos(answered: _Answered, windows: WindowsPart | None, shown: Sample, real: float = 1.0) -> Verdicts:
    """Fit thresholds by photos: a right hit against the best wrong one once the right product is taken out.

    The thresholds are taken times `real`; the rates are those of the photos that they were fitted to.
    """
    scores, right = answered.believed(windows), answered.right(windows)
    alarms = _first_evidence(answered.believed(windows, absent=True))
    believed = _first_evidence(scores[right]) if right.any() else alarms
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
    return np.array([evidence(row)[0] for row in -np.sort(-scores, axis=1)[:, :COMPARED]], np.float32)
