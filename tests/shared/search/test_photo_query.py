"""Queries from photos: the whole, or the window in which the thing is; how many pictures that costs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.embedding.registry import load
from shared.images.crop import Crop
from shared.images.decode import Picture
from shared.search.photo_query import MOST_PICTURES, photo_queries, photo_query
from shared.search.queries import Query
from shared.search.search import similar_to_query
from shared.snapshot.reader import Snapshot
from shared.vectors.projection import Block, Projection, rooted
from shared.vectors.unit import Vectors
from tests.support.pictures import drawn, encoded, vectors
from tests.support.snapshots import snapshot_of


class Counting:
    """The embedder that needs no network, with the number of pictures that it has embedded."""

    def __init__(self) -> None:
        self._network, self.count = load("colour_grid"), 0
        self.spec = self._network.spec

    def embed(self, images: Picture) -> Vectors:
        self.count += len(images)
        return self._network.embed(images)

    def files(self) -> list[Path]:
        return []


@pytest.fixture
def embedder() -> Counting:
    return Counting()


def scene(**things: tuple[int, int]) -> bytes:
    """Drawn products `p<seed>` of 160 x 160 pixels on a grey floor of 800 x 600, each with its left upper corner."""
    grain = np.random.default_rng(0).normal(120, 4, (600, 800, 1)).repeat(3, axis=2)
    floor = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    for name, place in things.items():
        floor.paste(product(int(name[1:])), place)
    return encoded(floor, "PNG")


def product(seed: int) -> Image.Image:
    """The picture of a drawn product."""
    return Image.open(io.BytesIO(drawn(seed, (160, 160), "PNG")))


def snapshot(folder: Path, used: bool = True, sure: float = 9.0) -> Snapshot:
    """Twelve drawn products, centred; whether windows are looked at, and below which evidence."""
    quality = {"windows": {"used": used, "sure": sure, "judged": {}}}
    rooted_vectors = rooted(vectors(*range(12)))
    projection = Projection((Block(0, rooted_vectors.mean(axis=0, keepdims=True).repeat(2, axis=0)),))
    rows = projection.images(vectors(*range(12)))
    return snapshot_of(folder, [f"p{n}" for n in range(12)], rows, quality=quality, projection=projection)


def first(view: Snapshot, query: Query) -> str:
    return similar_to_query(view, query)[0].image.product_id


def test_a_small_thing_is_found_by_its_window(tmp_path: Path, embedder: Counting) -> None:
    view = snapshot(tmp_path)
    query = photo_query(view, embedder, scene(p7=(610, 40)))
    assert first(view, query) == "p7"
    assert query.window
    assert (query.window.x, query.window.y) == pytest.approx((610 / 800, 40 / 600), abs=0.04)
    assert similar_to_query(view, query)[0].score > 0.5
    assert list(query.parts().names) == [f"window {query.window}"]


def test_windows_cost_nothing_where_they_are_not_needed(tmp_path: Path, embedder: Counting) -> None:
    for used, sure in ((False, 9.0), (True, -9.0)):
        query = photo_query(snapshot(tmp_path / f"{used}", used, sure), embedder, scene(p7=(610, 40)))
        assert query.window is None
        assert embedder.count == 1  # plain vectors: one view
        embedder.count = 0


def test_a_frame_that_somebody_drew_is_searched_as_it_is(tmp_path: Path, embedder: Counting) -> None:
    view = snapshot(tmp_path)
    photo = scene(p7=(610, 40), p3=(100, 300))
    (query,) = photo_queries(view, embedder, photo, Crop.parse("100,300,160,160"), things=3)
    assert (first(view, query), query.window, embedder.count) == ("p3", None, 1)


@pytest.mark.parametrize("used", [True, False])
def test_each_of_several_things_is_found(tmp_path: Path, embedder: Counting, used: bool) -> None:
    """Several things are looked for on request, though the judge is against it for one."""
    view = snapshot(tmp_path, used)
    queries = photo_queries(view, embedder, scene(p7=(610, 40), p3=(100, 300), p5=(500, 400)), things=3)
    assert {first(view, query) for query in queries} == {"p3", "p5", "p7"}
    assert embedder.count <= MOST_PICTURES
    assert len(photo_queries(view, embedder, scene(p7=(610, 40), p3=(100, 300)), things=1)) == 1


def test_things_that_touch_are_told_apart_by_quarters(tmp_path: Path, embedder: Counting) -> None:
    view = snapshot(tmp_path)
    photo = Image.new("RGB", (320, 320), "grey")
    photo.paste(product(2), (0, 0))
    photo.paste(product(9), (160, 160))
    queries = photo_queries(view, embedder, encoded(photo, "PNG"), things=2)
    assert {first(view, query) for query in queries} == {"p2", "p9"}
    assert embedder.count <= MOST_PICTURES


def test_the_only_product_is_found_too(tmp_path: Path, embedder: Counting) -> None:
    view = snapshot_of(tmp_path, ["p1"], vectors(1), quality={"windows": {"used": True, "sure": 9.0}})
    assert first(view, photo_query(view, embedder, scene(p1=(610, 40)))) == "p1"
