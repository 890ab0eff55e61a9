"""Metrics on answers worked out by hand, and the command on a catalog of blocks."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from indexer.quality.evaluate import METRICS, Outcome, Query, labelled_queries, measure
from shared.errors import ConfigError
from shared.index.product_table import ProductImage
from shared.search.hits import Hit
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind
from tests.support.indexing import indexer
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY


def outcome(wanted: str, *answers: str) -> Outcome:
    """Products are letters; their category is whether the letter is a capital."""
    images = [ProductImage(name, "i", "u", {"category": str(name.isupper())}) for name in answers]
    lines = [json.dumps(asdict(image)).encode() for image in images]
    found = [Hit(rank, 1 - rank / 10, line) for rank, line in enumerate(lines, 1)]
    return Outcome(Query(b"", wanted, str(wanted.isupper())), found)


@pytest.mark.parametrize(
    ("metric", "answers", "value"),
    [
        ("R@1", "abc", 1),
        ("R@1", "bac", 0),
        ("R@5", "bcdea", 1),
        ("R@5", "bcdefa", 0),
        ("R@10", "bcdefa", 1),
        ("MRR", "bca", 1 / 3),
        ("MRR", "bc", 0),
        ("MRR", "", 0),
        ("category@1", "bA", 1),
        ("category@1", "Aa", 0),
        ("mAP@10", "AbAc", (1 / 2 + 2 / 4) / 2),
        ("mAP@10", "AB", 0),
    ],
)
def test_metrics(metric: str, answers: str, value: float) -> None:
    assert METRICS[metric](outcome("a", *answers)) == pytest.approx(value)


def test_intervals_hold_the_value_and_categories_stand_worst_first() -> None:
    figures = measure([outcome("a", "a"), outcome("b", "b"), outcome("A", "B"), outcome("B", "A")])
    cell = figures["metrics"]["R@1"]
    assert cell["low"] < cell["value"] == 0.5 < cell["high"]
    assert list(figures["categories"]) == ["True", "False"]


@pytest.mark.slow
def test_the_command_measures_labelled_and_simulated_photos(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    lines = ["product_id_model;id;path;category"]
    for n in range(12):
        (tmp_path / "pics" / f"{n}.jpg").write_bytes(drawn(n, (200, 200)))
        lines.append(f"p{n};{n};pics/{n}.jpg;kind {n % 2}")
    lines.append("p0;99;pics/1.jpg;kind 0")  # a photo that is labelled wrongly, so is not found
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    (tmp_path / "catalog.csv").write_text("\n".join(lines[:-1]))
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path / "data"))
    images = (tmp_path / "pics").as_uri().removesuffix("pics") + "{path}"
    template = ("--catalog", str(tmp_path / "catalog.csv"), "--image-url", images)
    for _ in range(2):
        assert indexer(*where, *template, "--model", "colour_grid").returncode == 0
    folder = tmp_path / "data" / "evaluation" / "371" / "0341"
    done = indexer("evaluate", *where, "--photos", str(tmp_path / "photos.csv"))
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads((folder / "metrics.json").read_text()).values()
    assert figures["photos"] == 13
    assert figures["metrics"]["R@1"]["value"] == pytest.approx(12 / 13, abs=1e-4)
    assert figures["alike"]["columns"] == ["category"]
    assert set(figures["alike"]["metrics"]) == {"category@1", "category@3", "nDCG@10"}
    assert "How alike is what is found by a product?" in done.stdout
    assert (folder / "products-index.html").read_text().count('class="asked') == 12
    page = (folder / "index.html").read_text()
    assert page.count('class="asked') == 13
    assert 'src=""' not in page
    before = next((tmp_path / "data" / "snapshots" / "371" / "0341").glob("20*")).name
    assert indexer(*where, *template, "--model", "colour_grid", "--metric", "plain", "--force").returncode == 0
    done = indexer("evaluate", *where, "--against", before)
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout
    assert (folder / "against.html").exists()
    assert f"{before} -> " in done.stdout
    assert (tmp_path / "data" / "changes" / "371" / "0341" / "index.html").exists()


@pytest.mark.slow
def test_products_with_several_pictures_are_judged_by_held_out_ones(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(24):
        for shot in range(3):
            # the last product's pictures are of three different things
            seed = 1000 + shot if n == 23 else n
            (pictures / f"p{n}_{shot}.jpg").write_bytes(drawn(seed, (200 + 10 * shot, 200)))
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path / "data"))
    assert indexer(*where, "--catalog", str(pictures), "--model", "colour_grid").returncode == 0
    snapshot = Snapshot.current(tmp_path / "data", HOCKEY)
    assert snapshot.manifest.quality.estimated_by == "held-out images"
    assert snapshot.manifest.quality.estimate == pytest.approx(23 / 24, abs=1e-4)
    assert snapshot.manifest.quality.coverage == 1
    assert snapshot.verdicts[QueryKind.PHOTO].lost <= 0.11
    assert json.loads((snapshot.folder / "report.json").read_text())["found"]["p23"] == 0
    done = indexer("evaluate", *where)
    assert done.returncode == 0, done.stderr
    assert "72 held-out images" in done.stdout
    figures = json.loads((tmp_path / "data" / "evaluation" / "371" / "0341" / "metrics.json").read_text())
    assert figures[snapshot.id]["metrics"]["R@1"]["value"] == pytest.approx(23 / 24, abs=1e-4)


def test_a_photo_with_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_bytes(b"product_id_model;id;path\n1;2;a\0.jpg\n")
    with pytest.raises(ConfigError, match=r"a.x00\.jpg' cannot be read: embedded null byte"):
        labelled_queries(tmp_path / "photos.csv")


@pytest.mark.slow
def test_nothing_to_ask_is_one_sentence(tmp_path: Path) -> None:
    done = indexer("evaluate", "--department", "371", "--domain", "0341", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "There is no snapshot of 371/0341" in done.stderr
