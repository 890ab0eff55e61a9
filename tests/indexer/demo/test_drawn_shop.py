"""The drawn shop: complete, the same every time, and what the demo makes of it."""

import csv
import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from indexer.catalog.parsing import parse_catalog
from indexer.demo.drawn_shop import draw_shop, product_files, shop_products
from indexer.quality.simulated_photo import photographed
from shared.images.decode import decode
from tests.support.pictures import drawn
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    draw_shop(folder)
    return folder


@pytest.mark.slow
def test_the_shop_is_complete(shop: Path) -> None:
    catalog = parse_catalog((shop / "catalog.csv.gz").read_bytes(), "sample")
    pictures = Counter(row.product_id for row in catalog.rows)
    kinds = Counter({row.product_id: row.attributes["category"] for row in catalog.rows}.values())
    assert not catalog.refused
    assert len(pictures) >= 240
    assert set(pictures.values()) == {2, 3, 4}
    assert len(kinds) == 24
    assert {"hockey stick", "ice skate", "hockey helmet", "puck", "hockey glove"} <= kinds.keys()
    with (shop / "photos.csv").open(newline="") as file:
        photos = list(csv.DictReader(file, delimiter=";"))
    assert len({photo["product_id_model"] for photo in photos}) == 120
    for path in (*(f"images/{row.image_id}.jpg" for row in catalog.rows), *(photo["path"] for photo in photos)):
        assert isinstance(decode((shop / path).read_bytes()), np.ndarray)


@pytest.mark.slow
def test_the_shop_is_the_same_every_time(shop: Path) -> None:
    for product in shop_products()[::20]:
        for name, data in product_files(product):
            assert (shop / name).read_bytes() == data, name


def test_no_two_products_are_alike() -> None:
    designs = [product.design for product in shop_products()]
    assert len({(design.kind, design.main, design.pattern) for design in designs}) == len(designs)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (300, 20)])
def test_any_picture_can_be_photographed(size: tuple[int, int]) -> None:
    for picture in (decode(drawn(1, size)), np.full((size[1], size[0], 3), 255, np.uint8)):
        assert isinstance(picture, np.ndarray)
        photo = photographed(picture, np.random.default_rng(0), [picture])
        assert photo.shape in ((640, 480, 3), (480, 640, 3))
        assert (photo == photographed(picture, np.random.default_rng(0), [picture])).all()


def demo(*arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIMILARITY_", "MAKE"))}
    done = subprocess.run(
        ["make", "demo", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_demo_answers_both_questions_and_ends(shop: Path, networks: Path, tmp_path: Path) -> None:
    (tmp_path / "sample").symlink_to(shop)
    (tmp_path / "networks").symlink_to(networks)
    said = demo(f"DATA={tmp_path}")
    assert "Which products look most like this product?" in said
    assert "Which products look most like this photo?" in said
    assert f"make serve DATA={tmp_path}" in said
    found = int(said.partition(" of 12 photos find their own product first")[0].split()[-1])
    assert found >= 9
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("<figure") == 24 * 7
    assert 'src=""' not in page
    assert "http://" not in page


@pytest.mark.slow
def test_the_demo_takes_a_folder_of_ones_own(tmp_path: Path) -> None:
    pictures = tmp_path / "mine"
    pictures.mkdir()
    for n in range(5):
        (pictures / f"thing{n}_1.jpg").write_bytes(drawn(n, (200, 200)))
    assert "5 photos find their own product first" in demo(
        f"DATA={tmp_path / 'data'}", f"DATASET={pictures}", "MODEL=colour_grid"
    )
