"""Products that are listed twice: their file, and what it makes of verdicts."""

from pathlib import Path

import numpy as np
import pytest

from shared.errors import SnapshotError
from shared.index.duplicates import Duplicates
from shared.live.journal import Journal
from shared.live.live_view import current_view
from shared.search.params import SearchParams
from shared.search.search import similar_to_product
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import Verdict
from shared.snapshot.view import SnapshotView
from shared.storage.arrays import write_array
from tests.support.snapshots import HOCKEY, LEVELS, snapshot_of, unit

NAMES = [f"p{n}" for n in range(30)]


def snapshot(data: Path, *pairs: tuple[int, int]) -> Snapshot:
    """Products on an arc, p0 first; `pairs` of them are listed twice."""
    vectors = unit(*[[1, n / 30] for n in range(30)])
    levels = LEVELS | {"same": 2.0}
    return snapshot_of(data, NAMES, vectors, quality={"verdicts": {"product": levels}}, duplicates=pairs)


def same(view: SnapshotView, product: str, **params: object) -> list[str]:
    hits = similar_to_product(view, product, SearchParams(k=29, **params))  # type: ignore[arg-type]
    return [hit.image.product_id for hit in hits if hit.verdict is Verdict.SAME]


def test_both_ways_in_a_file(tmp_path: Path) -> None:
    Duplicates.of([(7, 3), (3, 9), (7, 3)]).write(tmp_path)
    found = Duplicates.open(tmp_path, ["duplicates.npy"], 10)
    assert [found.of_product(n).tolist() for n in (3, 7, 9, 4)] == [[7, 9], [3], [3], []]
    Duplicates.of(()).write(tmp_path / "nowhere")
    assert not len(Duplicates.open(tmp_path, [], 10).of_product(3))


@pytest.mark.parametrize("pairs", [[[3, 10]], [[-1, 3]], [[1, 2, 3]]])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, pairs: list[list[int]]) -> None:
    write_array(tmp_path / "duplicates.npy", np.array(pairs, np.int32))
    with pytest.raises(SnapshotError, match="do not belong"):
        Duplicates.open(tmp_path, ["duplicates.npy"], 10)


def test_pixels_decide_what_is_the_same_however_high_the_score_is(tmp_path: Path) -> None:
    view = snapshot(tmp_path, (0, 5), (0, 19))
    assert same(view, "p0") == ["p5", "p19"]
    assert same(view, "p19") == ["p0"]
    assert same(view, "p1") == []
    scores = {hit.image.product_id: hit.score for hit in similar_to_product(view, "p0")}
    assert scores["p1"] > scores["p5"]


@pytest.mark.parametrize(
    "params", [{"verdict": Verdict.SAME}, {"diversity": 0.1}, {"exclude": frozenset({"p1"})}, {"min_score": 0.1}]
)
def test_whatever_else_is_wanted(tmp_path: Path, params: dict[str, object]) -> None:
    view = snapshot(tmp_path, (0, 5), (0, 19))
    assert set(same(view, "p0", **params)) == {"p5", "p19"}


def test_the_least_verdict_same_leaves_the_duplicates_alone(tmp_path: Path) -> None:
    view = snapshot(tmp_path, (0, 5))
    hits = similar_to_product(view, "p0", SearchParams(verdict=Verdict.SAME))
    assert [(hit.rank, hit.image.product_id) for hit in hits] == [(1, "p5")]
    assert similar_to_product(view, "p1", SearchParams(verdict=Verdict.SAME)) == []


def test_live_changes_leave_them_to_the_products_of_the_snapshot(tmp_path: Path) -> None:
    view = snapshot(tmp_path, (0, 5), (0, 7))
    journal = Journal(tmp_path, HOCKEY)
    journal.delete("p5", indexed=True)
    journal.close()
    live = current_view(tmp_path, view)
    assert same(live, "p0") == ["p7"]
