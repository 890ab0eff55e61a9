"""Measures of what is found by a product, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from indexer.quality.evaluate import interval
from indexer.quality.evaluate_products import alike_outcomes, alike_page, measure_alike
from shared.errors import ConfigError
from shared.snapshot.reader import Snapshot
from tests.support.pictures import disc
from tests.support.snapshots import snapshot_of, unit

KINDS, STYLES = "aaaabbbbbccccccccccc", "11223344556789ABCDEF"


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Twenty products on an arc, so that neighbours of a number are its neighbours in the answers."""
    angles = np.linspace(0, 1.5, 20)
    rows = [{"kind": kind, "style": style} for kind, style in zip(KINDS, STYLES, strict=True)]
    vectors = unit(*np.stack([np.cos(angles), np.sin(angles)], axis=1))
    return snapshot_of(tmp_path, [f"p{n}" for n in range(20)], vectors, attributes=rows)


def test_kinds_and_styles_are_counted_as_a_reader_would(snapshot: Snapshot) -> None:
    outcomes = alike_outcomes(snapshot, ("kind", "style"))
    assert outcomes
    values = outcomes.values
    # p3 lies between p2, of its style and kind, and p4: equally near, and the first in the catalog is first.
    assert values["style@1"][3] == 1
    assert values["kind@1"][[0, 3, 4, 19]].tolist() == [1, 1, 0, 1]
    assert values["style@3"][:10].tolist() == [1] * 10
    assert np.isnan(values["style@1"][10:]).all()  # nothing else of their style
    figures = measure_alike(outcomes, interval)
    assert figures["products"] == 20
    assert figures["metrics"]["style@1"]["value"] == pytest.approx(np.nanmean(values["style@1"]), abs=1e-4)
    assert [*figures["categories"]][-1] == "a"  # worst first: their two styles keep together


def test_of_a_large_kind_the_share_of_the_first_ten_counts_or_of_as_many_as_there_are(tmp_path: Path) -> None:
    rows = [{"kind": "few" if n < 3 else "many"} for n in range(40)]
    vectors = unit(*[[1, n / 40] for n in range(40)])
    snapshot = snapshot_of(tmp_path, [f"p{n}" for n in range(40)], vectors, attributes=rows)
    outcomes = alike_outcomes(snapshot, ("kind",))
    assert outcomes
    assert outcomes.values["kind@10"][0] == 1  # both others of its kind are its first two
    assert outcomes.values["kind@10"][3] == pytest.approx(0.7)
    assert "kind@3" not in outcomes.values


def test_where_no_column_tells_there_is_nothing_to_measure(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["a", "b"], unit([1, 0], [0, 1]), attributes=[{"code": "1"}, {"code": "2"}])
    assert alike_outcomes(snapshot) is None
    with pytest.raises(ConfigError, match="ALIKE names the column 'kind'"):
        alike_outcomes(snapshot, ("kind",))


def test_the_page_shows_the_worst_first_with_what_shares_its_kind_in_green(snapshot: Snapshot) -> None:
    outcomes = alike_outcomes(snapshot, ("kind",))
    assert outcomes
    html = alike_page(snapshot, outcomes, lambda _: disc(8))
    worst = int(np.nanargmin(outcomes.values["nDCG@10"]))
    assert html.index(f"p{worst}") < html.index("nDCG 1.00")
    assert "right" in html
