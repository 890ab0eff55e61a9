"""Benchmarks run, leave their record, and count no wrong answer. How fast anything is, no test asks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import search
from bench.embed import FIGURES, Against, network_figures
from bench.figure import Bar, Figure
from bench.load import start_figures
from bench.material import Material, Pixels, Sizes
from bench.peers import Peer, keras
from bench.process import peak
from bench.report import Report, machine
from bench.serve import product_figures
from shared.embedding.families import clip
from shared.embedding.registry import load
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

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
    against = [Against(keras(grid.embed, PICTURES), Bar(1.8)), Against(Peer("loop", grid.embed), Bar(4), slow=True)]
    return network_figures(grid, against, PICTURES, TINY)


@pytest.mark.slow
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
    against = [Against(Peer("mirrored", mirrored)), Against(Peer("itself", grid.embed), Bar(1))]
    wrong, right = network_figures(grid, against, PICTURES, TINY)
    monkeypatch.setattr(search, "open_store", lambda *_: Wrong())
    recall, *others = search.store_figures(material)
    assert recall.status == "not reached"
    assert right.status != "void"
    assert {figure.status for figure in [wrong, *others]} == {"void"}


def test_a_bar_is_on_the_ratio_or_on_ours() -> None:
    assert Figure("f", 2, "", "peer", 1, Bar(1.8)).status == "reached"
    assert Figure("f", 2, "", "peer", 1, Bar(1.8, most=True)).status == "not reached"
    assert Figure("f", 2, "", "peer", 9, Bar(3, most=True, absolute=True)).status == "reached"
    assert Figure("f", 0, "", "peer", 9, Bar(3, most=True, absolute=True)).status == "reached"
    assert Figure("f", 2, "", "peer", 1).status == "seen"
    assert Figure("f", wrong="it stopped").status == "void"


def test_clip_without_weights_is_void_with_the_reason(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "find_spec", lambda _: None)
    (figure,) = FIGURES[-1](material)
    assert figure.status == "void"
    assert "make weights MODEL=clip_vit_b16" in figure.wrong


def test_pictures_are_made_in_the_size_of_a_phones_once(tmp_path: Path, material: Material) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURES[0]).save(path)
    (made,) = material.sized([path], Pixels(300, 400))
    with Image.open(made) as image:
        assert (image.format, image.size) == ("JPEG", (300, 400))
    content, written = made.read_bytes(), made.stat().st_mtime_ns
    assert material.sized([path, path], Pixels(300, 400)) == [made, made]
    assert made.stat().st_mtime_ns == written
    made.unlink()
    assert material.sized([path], Pixels(300, 400))[0].read_bytes() == content


@pytest.mark.slow
def test_the_peak_of_a_process_is_its_own_and_that_of_what_it_starts_is_told_apart() -> None:
    """Neither is that of the one which started it."""
    mine = np.ones(40_000_000)
    block = "block = b'x' * {}_000_000; time.sleep(0.7)"
    below = f"import time; {block.format(120)}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {below!r}]); {block.format(50)}",
        ]
    )
    seen = peak(process)
    assert 50 < seen.own < 110
    assert 120 < seen.below < 200
    assert mine.nbytes == 320_000_000
