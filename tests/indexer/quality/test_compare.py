"""The agreement of the answers of two snapshots, by hand and over the command."""

import csv
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from indexer.quality.compare import overlaps, show_changes
from shared.errors import ConfigError
from shared.snapshot.reader import Snapshot
from tests.support.indexing import indexer
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY, hockey, snapshot_of, unit


def line(data: Path, **places: float) -> Snapshot:
    """A snapshot of products on an arc: the closer two places are, the more alike."""
    return snapshot_of(data, list(places), unit(*([np.cos(at), np.sin(at)] for at in places.values())))


def test_overlap_by_hand(tmp_path: Path) -> None:
    before = line(tmp_path / "a", a=0, b=0.1, c=0.25, d=0.45)
    after = line(tmp_path / "b", a=0, b=0.3, c=0.25, d=0.45)
    found = overlaps(before, after)
    assert not found.added
    assert not found.removed
    by_product = {change.product_id: change for change in found.kept}
    # a: b c d, then c b d. Agreement at depth 1, 2, 3: 0, 1, 1.
    assert by_product["a"].overlap == pytest.approx(0.2 * (0 + 0.8 * 1 + 0.64 * 1) + 0.512 * 1, abs=1e-4)
    assert (by_product["a"].before, by_product["a"].after) == ("b", "c")
    # d: c b a, both times.
    assert by_product["d"].overlap == pytest.approx(0.2 * (0 + 0.8 + 0.64) + 0.512, abs=1e-4)
    assert [change.overlap for change in found.kept] == sorted(change.overlap for change in found.kept)


def test_the_same_answers_agree_wholly_whatever_the_vectors_and_the_order(tmp_path: Path) -> None:
    before = line(tmp_path / "a", a=0, b=0.1, c=0.25, d=0.45)
    wide = unit([0, 0, 1, 0.45], [0, 0, 1, 0.25], [0, 0, 1, 0.1], [0, 0, 1, 0])
    found = overlaps(before, snapshot_of(tmp_path / "b", ["d", "c", "b", "a"], wide))
    assert [change.overlap for change in found.kept] == [1] * 4
    assert all(change.before == change.after for change in found.kept)
    assert found.median == 1


def test_products_come_and_go(tmp_path: Path) -> None:
    before = line(tmp_path / "a", a=0, b=0.1, c=0.3, d=0.7)
    after = line(tmp_path / "b", x=0.01, a=0, b=0.1, c=0.3)
    found = overlaps(before, after)
    assert (found.added, found.removed) == (["x"], ["d"])
    changes = {change.product_id: (change.before, change.after) for change in found.kept}
    assert changes == {"a": ("b", "x"), "b": ("a", "x"), "c": ("b", "b")}
    assert "3 products are in both snapshots: 2 have another first answer" in str(found)


@pytest.mark.parametrize("places", [{"a": 0.0}, {"x": 0.0, "y": 1.0}])
def test_nothing_to_compare_agrees(tmp_path: Path, places: dict[str, float]) -> None:
    found = overlaps(line(tmp_path / "a", a=0), line(tmp_path / "b", **places))
    assert found.median == 1


def test_the_snapshot_that_served_before_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = line(tmp_path, a=0, b=1)
    with pytest.raises(ConfigError, match=f"No snapshot served before {first.id}"):
        show_changes(tmp_path, HOCKEY, None, Console())
    second, never_served = line(tmp_path, a=0, b=2), line(tmp_path / "b", a=0, b=3)
    never_served.folder.rename(hockey(tmp_path).path / never_served.id)
    show_changes(tmp_path, HOCKEY, None, Console(width=100))
    assert f"{first.id} -> {second.id}" in capsys.readouterr().out
    hockey(tmp_path).activate(first.id)
    show_changes(tmp_path, HOCKEY, None, Console(width=100))
    assert f"{second.id} -> {first.id}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_shows_the_most_changed_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path))
    for run in range(2):
        for n in range(12):
            (tmp_path / "pics" / f"{n}.png").write_bytes(drawn(n if n != 3 else 300 + run, (99, 100 + run), "PNG"))
        done = indexer(*where, "--force", "--model", "colour_grid", "--catalog", str(tmp_path / "pics"))
        assert done.returncode == 0, done.stderr
    done = indexer("changes", *where)
    assert done.returncode == 0, done.stderr
    assert "12 products are in both snapshots" in done.stdout
    folder = tmp_path / "changes" / "371" / "0341"
    rows = list(csv.DictReader((folder / "changes.csv").read_text().splitlines(), delimiter=";"))
    assert len(rows) == 12
    assert float(rows[0]["overlap"]) < float(rows[-1]["overlap"])
    page = (folder / "index.html").read_text()
    assert page.count(">before<") == page.count(">after<") == sum(float(row["overlap"]) < 1 for row in rows)
    assert 'class="answer wrong"' in page or 'class="answer right"' in page
    assert 'class="none"' not in page
    done = indexer("changes", *where, "--against", "none")
    assert done.returncode == 1
    assert "'none' does not name a snapshot. To see those that are there: make snapshots." in done.stderr
