"""The drawn shop: complete, the same every time, and what the demo makes of it: duplicates, colours, small things."""

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
from shared.embedding.engines.runtime import Runtime
from shared.images.decode import decode
from shared.partition import Partition
from shared.search.search import similar_to_photo, similar_to_product
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import Verdict
from tests.support.pictures import drawn
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    draw_shop(folder)
    return folder


@pytest.fixture(scope="module")
def demo_said(shop: Path, networks: Path, data: Path) -> str:
    """The output of the demo in the folder `data`."""
    (data / "sample").symlink_to(shop)
    (data / "networks").symlink_to(networks)
    return demo(f"DATA={data}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def snapshot(demo_said: str, data: Path) -> Snapshot:
    return Snapshot.current(data, Partition("371", "0341"))


def read_photos(shop: Path, ending: str = "") -> list[dict[str, str]]:
    with (shop / f"photos{ending}.csv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


@pytest.mark.slow
def test_the_shop_is_complete(shop: Path) -> None:
    catalog = parse_catalog((shop / "catalog.csv.gz").read_bytes(), "sample")
    pictures = Counter(row.product_id for row in catalog.rows)
    kinds = Counter({row.product_id: row.attributes["category"] for row in catalog.rows}.values())
    assert not catalog.refused
    assert len(pictures) == 284
    assert set(pictures.values()) == {2, 3, 4}
    assert len(kinds) == 24
    assert {"hockey stick", "ice skate", "hockey helmet", "puck", "hockey glove"} <= kinds.keys()
    photos = read_photos(shop)
    assert len({photo["product_id_model"] for photo in photos}) == 120
    afar = [row["path"] for share in (100, 50, 25, 10) for row in read_photos(shop, f"-{share}")]
    assert len(set(afar)) == 4 * 24
    for path in (*(f"images/{row.image_id}.jpg" for row in catalog.rows), *(p["path"] for p in photos), *afar):
        assert isinstance(decode((shop / path).read_bytes()), np.ndarray)


@pytest.mark.slow
def test_the_shop_is_the_same_every_time(shop: Path) -> None:
    for product in shop_products()[::20]:
        for name, data in product_files(product):
            assert (shop / name).read_bytes() == data, name


def test_no_two_products_are_alike_but_those_listed_twice() -> None:
    designs = [product.design for product in shop_products() if not product.again]
    assert len({(design.kind, design.main, design.pattern) for design in designs}) == len(designs)


def test_some_products_have_colours_and_some_are_listed_twice() -> None:
    products = shop_products()
    styles = Counter(product.style for product in products if not product.again)
    assert Counter(styles.values()) == {1: 216, 2: 16, 3: 8}
    again = [product for product in products if product.again]
    assert len(again) == 12
    assert all(sum(one.design == other.design for other in products) == 2 for one in again)


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
def test_the_demo_answers_both_questions_and_ends(demo_said: str, data: Path) -> None:
    assert "Which products look most like this product?" in demo_said
    assert "Which products look most like this photo?" in demo_said
    assert f"make serve DATA={data}" in demo_said
    found = int(demo_said.partition(" of 12 photos find their own product first")[0].split()[-1])
    assert found >= 9
    page = (data / "demo" / "index.html").read_text()
    assert page.count("<figure") == 24 * 7
    assert 'src=""' not in page
    assert "http://" not in page


@pytest.mark.slow
def test_what_is_listed_twice_is_the_same_and_nothing_else_is(snapshot: Snapshot) -> None:
    products = {product.id: product for product in shop_products()}
    for product in products.values():
        twins = {p.id for p in products.values() if p.design == product.design} - {product.id}
        hits = similar_to_product(snapshot, product.id)
        assert {hit.image.product_id for hit in hits if hit.verdict is Verdict.SAME} == twins
        assert not twins or hits[0].image.product_id in twins


@pytest.mark.slow
def test_another_colour_is_found_first_and_what_is_called_a_variant_is_one(snapshot: Snapshot) -> None:
    products = {product.id: product for product in shop_products()}
    styles = Counter(product.style for product in products.values() if not product.again)
    found, called = [], []
    for product in products.values():
        hits = [(products[hit.image.product_id], hit.verdict) for hit in similar_to_product(snapshot, product.id)]
        called += [other.style == product.style for other, verdict in hits if verdict is Verdict.VARIANT]
        if styles[product.style] > 1:
            found.append(hits[0][0].style == product.style)
    assert np.mean(found) >= 0.75
    assert not called or np.mean(called) >= 0.8


@pytest.mark.slow
def test_a_thing_that_is_small_in_the_photo_is_found(snapshot: Snapshot, shop: Path, data: Path) -> None:
    embedder = snapshot.load_embedder(Runtime(data / "networks"))

    def right(share: int) -> float:
        rows = read_photos(shop, f"-{share}")
        firsts = [similar_to_photo(snapshot, embedder, (shop / row["path"]).read_bytes())[0] for row in rows]
        return float(
            np.mean([hit.image.product_id == row["product_id_model"] for hit, row in zip(firsts, rows, strict=True)])
        )

    large = right(100)
    assert large >= 0.85
    assert right(25) >= 0.75 * large


@pytest.mark.slow
def test_the_demo_takes_a_folder_of_ones_own(tmp_path: Path) -> None:
    pictures = tmp_path / "mine"
    pictures.mkdir()
    for n in range(5):
        (pictures / f"thing{n}_1.jpg").write_bytes(drawn(n, (200, 200)))
    assert "5 photos find their own product first" in demo(
        f"DATA={tmp_path / 'data'}", f"DATASET={pictures}", "MODEL=colour_grid"
    )
