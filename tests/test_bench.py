"""Benchmarks run, leave their record, and count no wrong answer. How fast anything is, no test asks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import search
from bench.embed import network_figures
from bench.figure import Bar, Figure
from bench.load import start_figures
from bench.material import Material, Sizes
from bench.process import peak
from bench.report import Report, machine
from bench.serve import product_figures
from shared.embedders.registry import load
from shared.images import Picture
from shared.vectors import Vectors

TINY = Sizes(
    rounds=1, pictures=8, loop_pictures=2, vectors=300, dimension=16, queries=8, few=300, some=300, many=500, seconds=1
)
PICTURES = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
FIELDS = {"name", "ours", "unit", "peer", "theirs", "ratio", "bar", "status", "wrong", "note"}


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return Material("none", [], [], [], tmp_path / "work", TINY)


def embedding() -> Iterator[Figure]:
    grid = load("colour_grid")
    return network_figures(grid, (grid.embed, 1.8), (grid.embed, 4), PICTURES, TINY)


def test_figures_are_recorded(tmp_path: Path, material: Material) -> None:
    figures = [*embedding(), *search.store_figures(material), *start_figures(material)]
    assert not [figure for figure in figures if figure.wrong]
    path = Report(machine(), figures).write(tmp_path / "bench")
    record = json.loads(path.read_text())
    assert {"cpu", "cores", "instructions", "load", "libraries"} <= set(record["machine"])
    assert [figure["name"] for figure in record["figures"]] == [figure.name for figure in figures]
    for figure in record["figures"]:
        assert set(figure) == FIELDS
        assert figure["ours"] > 0
    table = path.with_suffix(".md").read_text().splitlines()[2:]
    assert len(table) == len(figures) + 2
    assert {line.count("|") for line in table} == {7}
    assert path.with_suffix(".svg").read_text().count("<rect") == len(figures) + 1


def test_answers_over_http_are_compared_and_counted(material: Material) -> None:
    pytest.importorskip("hnswlib", reason="the extra `bench` is not installed")
    figures = [*search.product_figures(material), *product_figures(material)]
    assert len(figures) == 7
    assert not [figure for figure in figures if figure.wrong]


def test_wrong_answers_void_a_figure(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    def mirrored(images: Picture) -> Vectors:
        return load("colour_grid").embed(images)[:, ::-1]

    class Wrong:
        def search(self, queries: Vectors, k: int) -> tuple[Vectors, np.ndarray]:
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)

    grid = load("colour_grid")
    figures = [*network_figures(grid, (mirrored, 1.8), (grid.embed, 4), PICTURES, TINY)]
    monkeypatch.setattr(search, "open_store", lambda _: Wrong())
    recall, *others = search.store_figures(material)
    assert recall.status == "not reached"
    assert {figure.status for figure in [*figures, *others]} == {"void"}


def test_a_bar_is_on_the_ratio_or_on_ours() -> None:
    assert Figure("f", 2, "", "peer", 1, Bar(1.8)).status == "reached"
    assert Figure("f", 2, "", "peer", 1, Bar(1.8, most=True)).status == "not reached"
    assert Figure("f", 2, "", "peer", 9, Bar(3, most=True, absolute=True)).status == "reached"
    assert Figure("f", 0, "", "peer", 9, Bar(3, most=True, absolute=True)).status == "reached"
    assert Figure("f", 2, "", "peer", 1).status == "seen"
    assert Figure("f", wrong="it stopped").status == "void"


def test_the_peak_of_a_process_is_its_own() -> None:
    """Not that of the one which started it."""
    mine = np.ones(40_000_000)
    process = subprocess.Popen([sys.executable, "-c", "import time; block = b'x' * 50_000_000; time.sleep(0.5)"])
    assert 50 < peak(process) < 200
    assert mine.nbytes == 320_000_000
