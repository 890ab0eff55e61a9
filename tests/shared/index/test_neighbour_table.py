"""The table of near products: against a plain sort, in blocks, and by cells; and how its recall is measured."""

import numpy as np
import pytest

from shared.index import neighbour_table as near
from shared.index.row_groups import RowGroups
from shared.vectors.kmeans import centres, nearest_centre, reach
from shared.vectors.recall import GroundTruth
from shared.vectors.top_k import best_products
from shared.vectors.unit import Vectors, normalise
from tests.support.snapshots import crowd


def plain(scores: Vectors, owners: np.ndarray, without: int, k: int) -> list[tuple[int, float]]:
    """(column, score) of the best products of one row, by sorting all."""
    best: dict[int, tuple[int, float]] = {}
    for column, (owner, score) in enumerate(zip(owners.tolist(), scores.round(6).tolist(), strict=True)):
        if owner != without and (owner not in best or score > best[owner][1]):
            best[owner] = column, score
    return sorted(best.values(), key=lambda found: (-found[1], found[0]))[:k]


@pytest.mark.parametrize("likely", [1, 7, 30, 10_000])
@pytest.mark.parametrize("digits", [1, 6])
def test_the_best_products_are_those_of_a_plain_sort(likely: int, digits: int) -> None:
    rng = np.random.default_rng(likely)
    owners = np.repeat(np.arange(400), rng.integers(1, 8, 400))
    scores = rng.normal(size=(20, len(owners))).round(digits).astype(np.float32)
    scores[3] = 0  # all tie
    scores[5:9] *= 1e-5  # many tie after rounding only
    scores[4, owners == 9] = 99  # one product has all the best images
    without = rng.integers(-1, 400, 20)
    columns, values = best_products(scores, owners, without, 30, likely)
    for row in range(20):
        wanted = plain(scores[row], owners, int(without[row]), 30)
        # Within a product the first of its images, between products the first product; columns ascend with both.
        assert list(zip(columns[row].tolist(), values[row].tolist(), strict=True)) == wanted


def test_all_products_may_be_wanted() -> None:
    owners = np.arange(5)
    columns, _ = best_products(np.arange(10, dtype=np.float32).reshape(2, 5), owners, np.array([4, 0]), 4, 1)
    assert columns.tolist() == [[3, 2, 1, 0], [4, 3, 2, 1]]


def shop(products: int) -> tuple[Vectors, RowGroups]:
    """Products with 1 to 4 images, of many themes."""
    rng = np.random.default_rng(1)
    starts = np.cumsum([0, *rng.integers(1, 5, products)]).astype(np.int32)
    themes = rng.normal(size=(60, 32))
    of_product = themes[rng.integers(60, size=products)] + 0.7 * rng.normal(size=(products, 32))
    images = np.repeat(of_product, np.diff(starts), axis=0)
    return normalise((images + 0.3 * rng.normal(size=images.shape)).astype(np.float32)), RowGroups(starts)


@pytest.mark.slow
def test_a_table_by_cells_is_nearly_the_exact_one_and_says_how_nearly() -> None:
    vectors, groups = shop(2500)
    exact, quick = (
        near.build_neighbour_table(vectors, groups),
        near.build_neighbour_table(vectors, groups, exact_work=0),
    )
    assert quick.rows.shape == exact.rows.shape == (2500, 100)
    first = [len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(exact.rows.tolist(), quick.rows.tolist(), strict=True)]
    assert exact.recall == 1
    assert 0.98 <= quick.recall < 1
    assert np.mean(first) == pytest.approx(quick.recall, abs=0.01)
    same = exact.rows == quick.rows
    assert np.allclose(exact.scores[same], quick.scores[same], atol=2e-6)


def test_cells_that_hold_too_few_products_are_not_enough() -> None:
    products, vectors = crowd(60)
    groups = RowGroups.of(products)
    exact, quick = (near.build_neighbour_table(vectors, groups, 59, work) for work in (1e9, 0))
    assert (groups.owners_of(np.sort(exact.rows)) == groups.owners_of(np.sort(quick.rows))).all()
    assert (exact.rows[:, :5] == quick.rows[:, :5]).mean() > 0.99


def test_cells_part_vectors_by_what_they_are() -> None:
    vectors, _ = shop(1000)
    middles = centres(vectors, 60)
    own = nearest_centre(vectors, middles)
    assert (own == (vectors @ middles.T).argmax(axis=1)).all()
    assert np.allclose(np.linalg.norm(middles, axis=1), 1, atol=1e-5)
    assert np.einsum("ij,ij->i", vectors, middles[own]).mean() > 0.75
    assert (centres(vectors, 60) == middles).all()


def test_how_many_cells_hold_enough_answers() -> None:
    eye = np.eye(4, dtype=np.float32)
    asked = normalise(np.array([[4, 3, 2, 1], [1, 2, 3, 4]], np.float32))
    assert reach(asked, eye, np.array([[0, 0], [3, 2]]), 0.75) == (1, 0.75)
    assert reach(asked, eye, np.array([[0, 0], [3, 2]]), 1) == (2, 1)
    assert reach(asked, eye, np.array([[3, 0], [3, 3]]), 1) == (4, 1)


def test_recall_counts_what_is_as_near_as_the_right_answers() -> None:
    vectors, _ = shop(500)
    vectors = np.concatenate([vectors, vectors])  # every answer has a double, which is as right
    ground_truth = GroundTruth.of(vectors, 50)
    assert ground_truth.questions.shape == (50, 32)
    right = np.argsort(-(ground_truth.questions @ vectors.T), axis=1, kind="stable")[:, :10]
    assert ground_truth.recall(vectors, right) == 1
    assert ground_truth.recall(vectors, (right + len(vectors) // 2) % len(vectors)) == 1
    assert ground_truth.recall(vectors, np.where(np.arange(10) < 8, right, -1)) == pytest.approx(0.8)
    worst = np.argsort(ground_truth.questions @ vectors.T, axis=1)[:, :10]
    assert ground_truth.recall(vectors, worst) == 0
