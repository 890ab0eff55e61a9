"""Calibration by photos: what windows are worth, and the verdicts that go with them."""

import io
from pathlib import Path

import pytest
from PIL import Image

from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind
from tests.support.indexing import indexer
from tests.support.pictures import drawn, encoded
from tests.support.snapshots import HOCKEY

AT = ("--department", "371", "--domain", "0341")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty products: a picture of coloured blocks each, on white."""
    folder = tmp_path_factory.mktemp("pictures")
    for n in range(30):
        picture = Image.new("RGB", (240, 240), "white")
        picture.paste(blocks(n), (30, 30))
        (folder / f"p{n}.jpg").write_bytes(encoded(picture, "JPEG"))
    return folder


def blocks(seed: int) -> Image.Image:
    """The thing of a product."""
    return Image.open(io.BytesIO(drawn(seed, (180, 180), "PNG")))


@pytest.mark.slow
def test_windows_are_used_where_they_find_small_things(folder: Path, tmp_path: Path) -> None:
    done = indexer(*AT, "--data", str(tmp_path), "--catalog", str(folder), "--model", "colour_grid")
    assert done.returncode == 0, done.stderr
    snapshot = Snapshot.current(tmp_path, HOCKEY)
    part = snapshot.manifest.quality.windows
    assert part
    assert part.used
    assert part.judged["afar, windows"] > part.judged["afar"] + 0.02
    assert part.judged["close, windows"] >= part.judged["close"]
    assert snapshot.verdicts[QueryKind.PHOTO].fitted_on == "30 simulated photos"


@pytest.mark.slow
def test_plain_vectors_are_searched_in_one_view_and_no_window(folder: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path), "--catalog", str(folder), "--model", "colour_grid", "--metric", "plain")
    assert indexer(*AT, *arguments).returncode == 0
    assert Snapshot.current(tmp_path, HOCKEY).manifest.quality.windows is None
