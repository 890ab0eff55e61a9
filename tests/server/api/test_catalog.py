"""Looking through a partition: its products, a product, its picture, its columns."""

import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from server.app import create_app
from server.serving.snapshots import Snapshots
from shared.embedding.registry import load
from shared.index.listing import TableListing
from shared.index.product_table import ProductImage, StoredTable, write_products
from shared.snapshot.manifest import CatalogPart
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY, hockey, unit

HOST = "https://cdn.example"


def image(product: str, number: int, url: str = "", **attributes: str) -> ProductImage:
    return ProductImage(product, f"i{number}", url or f"{HOST}/{number}.jpg", attributes)


IMAGES = [
    image("100", 0, name="Vintrik stick", colour="Navy blue", price="8"),
    image("100", 1, name="Vintrik stick", colour="Navy blue", price="8"),
    image("100", 2, name="Vintrik stick", colour="Navy & white", price="8"),
    image("101", 3, name="Hélice HELMET", colour="red", price="8"),
    image("blue/1", 4, "http://other.example:8080/x.jpg", name="Puck", colour="", price="20.5"),
    image("Straße é", 5, name="T-shirt 100", colour="red", price="-3"),
]


def snapshot(data: Path, images: list[ProductImage]) -> Snapshot:
    """A current snapshot of these images, one vector like another."""
    vectors = unit(*([1.0, float(number)] for number in range(len(images))))
    draft = Draft(HOCKEY, images, vectors, load("colour_grid"), None, "faiss", CatalogPart("x"), {}, b"{}", b"")
    with hockey(data).exclusive():
        hockey(data).activate(write_snapshot(data, draft))
    return Snapshot.current(data, HOCKEY)


def client_of(data: Path, images: list[ProductImage]) -> FlaskClient:
    snapshot(data, images)
    return create_app(Snapshots(data, photos=False)).test_client()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    return client_of(tmp_path_factory.mktemp("catalog"), IMAGES)


def products(client: FlaskClient, **query: Any) -> tuple[int, list[str]]:
    answer = client.get("/v1/371/0341/products", query_string=query)
    assert answer.status_code == 200, answer.data
    body = json.loads(answer.data)
    return body["total"], [found["product_id"] for found in body["products"]]


def problem(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.data
    return str(json.loads(answer.data)["detail"])


def test_products_stand_in_the_catalog_s_order_each_once_by_its_first_image(client: FlaskClient) -> None:
    body = client.get("/v1/371/0341/products").get_json()
    assert [found["image_id"] for found in body["products"]] == ["i0", "i3", "i4", "i5"]
    assert body["products"][0] == {
        "product_id": "100",
        "image_id": "i0",
        "image_url": f"{HOST}/0.jpg",
        "attributes": {"name": "Vintrik stick", "colour": "Navy blue", "price": "8"},
    }
    assert products(client, limit=2, offset=1) == (4, ["101", "blue/1"])
    assert products(client, offset=4) == (4, [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("100", ["100", "Straße é"]),  # an id first, then a word
        ("10", ["100", "101", "Straße é"]),
        ("  10 ", ["100", "101", "Straße é"]),
        ("00", []),  # beginnings only
        ("blue", ["blue/1", "100"]),
        ("BLUE/", ["blue/1", "100"]),
        ("blue/1", ["blue/1", "100"]),  # whose words begin with blue and 1
        ("vintrik navy", ["100"]),
        ("nav vin", ["100"]),
        ("vintrik red", []),
        ("helice", ["101"]),
        ("hélice helmet", ["101"]),
        ("strasse", ["Straße é"]),
        ("STRASSE É", ["Straße é"]),
        ("t-shirt", ["Straße é"]),
        ("white", ["100"]),  # of another image
        ("8", ["100", "101"]),
        ("&", []),
        ("\0", []),
        ("", ["100", "101", "blue/1", "Straße é"]),
        ("  ", ["100", "101", "blue/1", "Straße é"]),
    ],
)
def test_text_is_the_beginning_of_an_id_or_of_words(client: FlaskClient, text: str, found: list[str]) -> None:
    assert products(client, text=text) == (len(found), found)


def test_found_products_are_paged(client: FlaskClient) -> None:
    assert products(client, text="10", limit=1, offset=1) == (3, ["101"])


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=", "offset=-1", "offset=1e3", "limit=٣", "text=" + "x" * 201]
)
def test_wrong_parameters_are_400(client: FlaskClient, query: str) -> None:
    assert query.partition("=")[0] in problem(client.get(f"/v1/371/0341/products?{query}"), 400)


@pytest.mark.parametrize("name", ["100", "blue/1", "Straße é"])
def test_a_product_has_all_its_images(client: FlaskClient, name: str) -> None:
    body = client.get(f"/v1/371/0341/products/{quote(name, safe='')}").get_json()
    assert body["product_id"] == name
    mine = [found for found in IMAGES if found.product_id == name]
    assert [found["image_id"] for found in body["images"]] == [found.image_id for found in mine]
    assert body["images"][0]["attributes"] == mine[0].attributes


@pytest.mark.parametrize(
    "path", ["371/0341/products/nope", "371/0341/products/nope/image", "9/9/products", "9/9/attributes"]
)
def test_what_is_unknown_is_404(client: FlaskClient, path: str) -> None:
    assert problem(client.get(f"/v1/{path}"), 404)


def test_answers_are_tagged_with_the_snapshot(client: FlaskClient) -> None:
    for path in ("products", "products?text=1", "products/100", "attributes"):
        answer = client.get(f"/v1/371/0341/{path}")
        tag = answer.headers["ETag"]
        assert answer.get_json()["snapshot"] == tag.strip('"')
        again = client.get(f"/v1/371/0341/{path}", headers={"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b"")


def test_attributes_count_products(client: FlaskClient) -> None:
    name, colour, price = client.get("/v1/371/0341/attributes").get_json()["attributes"]
    assert (name["name"], name["distinct"]) == ("name", 4)
    assert colour == {
        "name": "colour",
        "distinct": 3,
        "values": [
            {"value": "red", "count": 2},
            {"value": "Navy & white", "count": 1},
            {"value": "Navy blue", "count": 1},
        ],
    }
    assert (price["low"], price["high"], price["values"][0]) == (-3, 20.5, {"value": "8", "count": 2})


def test_only_the_most_frequent_values_are_told(tmp_path: Path) -> None:
    images = [image(f"p{n}", n, size="nan" if n == 0 else str(n)) for n in range(60)]
    images += [image("again", 60, size="59")]
    (size,) = client_of(tmp_path, images).get("/v1/371/0341/attributes").get_json()["attributes"]
    assert size["distinct"] == 60
    assert len(size["values"]) == 50
    assert size["values"][0] == {"value": "59", "count": 2}
    assert "low" not in size  # "nan" is no number


def test_a_picture_on_the_web_is_a_redirect(client: FlaskClient) -> None:
    first = client.get("/v1/371/0341/products/100/image?size=64")
    assert (first.status_code, first.headers["Location"], first.data) == (302, f"{HOST}/0.jpg", b"")
    assert client.get("/v1/371/0341/products/100/image?image_id=i2").headers["Location"] == f"{HOST}/2.jpg"
    place = f"/v1/371/0341/products/{quote('blue/1', safe='')}/image"
    assert client.get(place).headers["Location"] == "http://other.example:8080/x.jpg"
    assert "i9" in problem(client.get("/v1/371/0341/products/100/image?image_id=i9"), 404)
    assert "16 to 1,024" in problem(client.get("/v1/371/0341/products/100/image?size=4000"), 400)


def test_an_odd_address_cannot_add_a_header(tmp_path: Path) -> None:
    client = client_of(tmp_path, [image("p", 0, "https://cdn.example/a b\r\nX-Evil: 1")])
    answer = client.get("/v1/371/0341/products/p/image")
    assert answer.status_code < 500
    assert "X-Evil" not in answer.headers


def test_a_picture_on_this_host_is_made_small_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "é #1.png"
    path.write_bytes(drawn(1, (600, 300), "PNG"))
    client = client_of(tmp_path, [image("p", 0, path.as_uri())])
    place = "/v1/371/0341/products/p/image?size=100"
    answer = client.get(place)
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    with Image.open(io.BytesIO(answer.data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (100, 50))
    assert "max-age" in answer.headers["Cache-Control"]
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert (client.get(place, headers=tag).status_code, client.get(place, headers=tag).data) == (304, b"")
    assert client.get(place.replace("100", "64"), headers=tag).status_code == 200
    path.write_bytes(drawn(2, (60, 60), "PNG"))
    assert client.get(place, headers=tag).status_code == 200


def test_nothing_but_pictures_gets_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large.jpg"
    large.write_bytes(drawn(1) + bytes(11 << 20))
    places = [secret.as_uri(), "file:///dev/zero", "file:///etc", (tmp_path / "pipe").as_uri(), "file:///no/such.jpg"]
    places += [large.as_uri(), "file://elsewhere/x.jpg", "file:///a%00b", "ftp://host/x.jpg", "/etc/passwd", "x.jpg"]
    client = client_of(tmp_path, [image(f"p{n}", n, place) for n, place in enumerate(places)])
    for number in range(len(places)):
        answer = client.get(f"/v1/371/0341/products/p{number}/image")
        assert "secret" not in problem(answer, 404)


def test_the_hosts_of_pictures_are_known(tmp_path: Path) -> None:
    images = [
        *IMAGES,
        image("a", 6, "file:///x.jpg"),
        image("b", 7, "https://e; script-src *.example/x"),
        image('{"product_id":"x"', 8, "http://user@host/x", image_url="https://evil.example/x"),
        image('\n{"product_id":"', 9, "HTTPS://cdn.example/x", name='"image_url":"https://evil.example/x'),
    ]
    listing = snapshot(tmp_path, images).listing
    assert listing.origins == ["http://other.example:8080", HOST]


def test_a_large_catalog_is_read_once(tmp_path: Path) -> None:
    count = 20_000
    write_products([image(f"p{n}", n, name=f"thing {n % 97} {n}") for n in range(count)], tmp_path)
    listing = TableListing(StoredTable(tmp_path))
    assert listing.find("thing").tolist() == list(range(count))
    content = listing._content
    assert len(listing.find("no such thing")) == 0
    assert np.array_equal(listing.find("p1999"), [1999, *range(19990, 20000)])
    assert listing.find("thing 96 1999").tolist() == [n for n in range(count) if n % 97 == 96 and str(n)[:4] == "1999"]
    assert listing._content is content


def test_words_of_any_script_are_found_by_how_they_begin(tmp_path: Path) -> None:
    words = ["\U00020000\U00020001", "\U00020000", "\u4e2d", "é", "Ω"]
    write_products([image(f"p{n}", n, name=word) for n, word in enumerate(words)], tmp_path)
    listing = TableListing(StoredTable(tmp_path))
    found = {word: listing.find(word).tolist() for word in words}
    assert found == {words[0]: [0], words[1]: [0, 1], "\u4e2d": [2], "é": [3], "Ω": [4]}
    assert listing.find("ω").tolist() == [4]


def test_the_words_of_a_product_take_a_few_hundred_bytes(tmp_path: Path) -> None:
    count = 5000
    named = [image(f"p{n}", n, name=f"thing {n % 97} {n}", code=f"SKU-{n * 7919}") for n in range(count)]
    write_products(named, tmp_path)
    listing = TableListing(StoredTable(tmp_path))
    tracemalloc.start()
    try:
        assert len(listing.find("sku")) == count
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200 * count
