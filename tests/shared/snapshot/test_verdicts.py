"""Verdicts: thresholds keep what they were fitted to, and the answers carry them."""

from pathlib import Path

import numpy as np
import pytest

from indexer.quality.calibrate import Sample, _Answered, _of_photos
from shared.errors import BadQuestion
from shared.search.diversity import diversified
from shared.search.params import SearchParams
from shared.search.search import similar_to_product, similar_to_vectors
from shared.snapshot.verdicts import Verdicts, evidence
from tests.support.snapshots import snapshot_of, unit

LEVELS = Verdicts(0.2, 0.5, 0.9, {"similar": 0.4, "variant": 0.2, "same": 0.05}, 0.1, "by hand")


@pytest.mark.parametrize(
    ("level", "verdict"),
    [(0.1, "none"), (0.2, "similar"), (0.49, "similar"), (0.5, "variant"), (0.9, "same"), (2, "same")],
)
def test_verdicts_by_level(level: float, verdict: str) -> None:
    assert LEVELS.of(level) == verdict


def test_products_that_compete_make_each_other_less_believable() -> None:
    alone, one_rival = evidence(np.array([0.8])), evidence(np.array([0.8, 0.4]))
    assert alone.tolist() == pytest.approx([1.0])
    assert one_rival.tolist() == pytest.approx([0.2 + 0.4, 0.1 - 0.4])
    scores = np.array([0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2])

    def expected(place: int) -> float:
        others = np.delete(scores, place)[3:7]
        return float(1.25 * scores[place] - others.mean())

    assert evidence(scores).tolist() == pytest.approx([expected(place) for place in range(9)])
    assert evidence(scores[3:], scores).tolist() == pytest.approx([expected(place) for place in range(3, 9)])
    assert len(evidence(np.array([]))) == 0


def test_the_same_thing_in_three_other_colours_makes_no_hit_less_believable() -> None:
    alone, in_colours = [0.8, 0.4, 0.4, 0.4], [0.8, 0.79, 0.78, 0.77]
    rivals = [0.3, 0.3, 0.2, 0.2]
    assert evidence(np.array(in_colours + rivals))[0] == evidence(np.array(alone + rivals))[0]


def test_thresholds_keep_right_answers_and_refuse_what_is_absent() -> None:
    rng = np.random.default_rng(0)
    owners = np.arange(400) % 20
    scores = rng.uniform(0, 0.5, (400, 20)).astype(np.float32)
    scores[np.arange(400), owners] += rng.uniform(0.1, 0.5, 400).astype(np.float32)
    fitted = _of_photos(_Answered(list(scores[:, None]), owners), None, Sample.USER)
    right = scores.argmax(axis=1) == owners
    verdicts = np.array([fitted.of(evidence(-np.sort(-row))[0]) for row in scores])
    assert (verdicts[right] == "none").mean() <= 0.11
    absent = np.stack([np.delete(row, owner) for row, owner in zip(scores, owners, strict=True)])
    verdicts = np.array([fitted.of(evidence(-np.sort(-row))[0]) for row in absent])
    assert (verdicts == "same").mean() <= 0.06
    assert (verdicts != "none").mean() == pytest.approx(fitted.false_alarms["similar"], abs=1e-4)


def test_answers_carry_verdicts_and_variants_count_once(tmp_path: Path) -> None:
    near = [1.0, 0.1, 0.0]
    vectors = unit([1, 0, 0], near, [1, 0.11, 0], [1, 1, 0], [0, 0, 1])
    quality = {"verdicts": {"product": {**_fields(LEVELS), "variant": 0.99}, "photo": _fields(LEVELS)}}
    snapshot = snapshot_of(tmp_path, list("pqrst"), vectors, quality=quality)
    answers = similar_to_product(snapshot, "p")
    assert [(answer.image.product_id, answer.verdict) for answer in answers] == [
        ("q", "same"), ("r", "same"), ("s", "similar"), ("t", "none"),
    ]  # fmt: skip
    folded = similar_to_product(snapshot, "p", SearchParams(3, collapse=True))
    assert [(answer.rank, answer.image.product_id) for answer in folded] == [(1, "q"), (2, "s"), (3, "t")]
    photo = similar_to_vectors(snapshot, vectors[:1], SearchParams(1))
    assert photo[0].verdict == "variant"


def test_without_fitted_verdicts_there_are_none_and_variants_cannot_be_told(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, list("pq"), unit([1, 0], [0, 1]))
    assert similar_to_product(snapshot, "p")[0].verdict is None
    with pytest.raises(BadQuestion, match="Index again"):
        similar_to_product(snapshot, "p", SearchParams(collapse=True))


def test_diversity_trades_likeness_for_difference(tmp_path: Path) -> None:
    vectors = unit([1, 0, 0], [1, 0.10, 0], [1, 0.11, 0], [1, 0, 0.6])
    snapshot = snapshot_of(tmp_path, list("pqrs"), vectors)
    order = {
        weight: [
            answer.image.product_id for answer in similar_to_product(snapshot, "p", SearchParams(diversity=weight))
        ]
        for weight in (0.0, 0.7)
    }
    assert order == {0.0: ["q", "r", "s"], 0.7: ["q", "s", "r"]}


def test_arranging_is_a_permutation_where_nothing_is_folded() -> None:
    vectors = unit(*np.random.default_rng(0).normal(size=(50, 8)))
    scores = np.sort(vectors @ vectors[0])[::-1].astype(np.float32)
    assert diversified(scores, vectors, 50, np.inf, 0.0) == list(range(50))
    assert sorted(diversified(scores, vectors, 50, np.inf, 0.8)) == list(range(50))


def _fields(verdicts: Verdicts) -> dict[str, object]:
    return {name: getattr(verdicts, name) for name in Verdicts.__slots__}
