"""Benchmarks run, leave their record, and count no wrong answer. How fast anything is, no test asks."""

import json
from pathlib import Path

import numpy as np

from bench.config import Sizes
from bench.embed import network_figures
from bench.figure import Bar, Figure
from bench.machine import machine
from bench.reference import Reference
from bench.report import Report
from bench.search import product_figures, store_figures
from shared.embedders import load
from shared.images import Picture
from shared.vectors import Vectors

TINY = Sizes(rounds=1, pictures=8, loop_pictures=2, vectors=300, dimension=16, queries=8, few=300)
PICTURES = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
FIELDS = {"name", "ours", "unit", "peer", "theirs", "ratio", "bar", "status", "wrong", "skipped", "note"}


def test_figures_are_recorded(tmp_path: Path) -> None:
    grid = load("colour_grid")
    figures = [
        *network_figures("colour_grid", grid, Reference(grid.embed, grid.embed), PICTURES, TINY),
        *store_figures(tmp_path / "store", TINY),
        *product_figures(tmp_path / "data", TINY),
    ]
    assert not [figure for figure in figures if figure.wrong]
    path = Report(machine(), figures).write(tmp_path / "bench")
    record = json.loads(path.read_text())
    assert {"cpu", "cores", "flags", "load", "libraries"} <= set(record["machine"])
    assert len(record["figures"]) == len(figures)
    for figure in record["figures"]:
        assert set(figure) == FIELDS
        assert figure["skipped"] or figure["ours"] > 0
    assert "<svg" in path.with_suffix(".html").read_text()


def test_wrong_answers_void_a_figure(tmp_path: Path) -> None:
    def mirrored(images: Picture) -> Vectors:
        return load("colour_grid").embed(images)[:, ::-1]

    grid = load("colour_grid")
    other = Reference(mirrored, grid.embed)
    assert {figure.status for figure in network_figures("grid", grid, other, PICTURES, TINY)} == {"void"}
    assert {figure.status for figure in store_figures(tmp_path / "s", TINY, lambda _: [0])} == {"void"}


def test_a_bar_is_on_the_ratio_or_on_ours() -> None:
    assert Figure("f", 2, "", "peer", 1, Bar(1.8)).status == "reached"
    assert Figure("f", 2, "", "peer", 1, Bar(1.8, most=True)).status == "not reached"
    assert Figure("f", 2, "", "peer", 9, Bar(3, most=True, absolute=True)).status == "reached"
    assert Figure("f", 2, "", "peer", 1).status == "seen"
    assert Figure("f", skipped="no wrk").status == "skipped"
