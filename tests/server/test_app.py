"""The HTTP contract: answers, and one shape of error for everything that can be asked wrongly."""

import base64
import gzip
import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.api import search as search_module
from server.api.photo_body import MAX_BODY
from server.app import create_app
from server.inference import networks
from server.middleware.fast_path import FastPath
from server.serving import served_partition
from server.serving.snapshots import Snapshots
from shared.embedding.families.colour_grid import ColourGrid
from shared.partition import Partition
from shared.snapshot.reader import Snapshot
from tests.support.answers import problem, results
from tests.support.audit import entries
from tests.support.pictures import drawn, vectors
from tests.support.project import SHARED, needs_shared
from tests.support.server import until
from tests.support.snapshots import HOCKEY, hockey, snapshot_of

ODD = ["a/b", "../x", "é ü", "😀", "%2e%2e", "a?b#c", "//", "x" * 9000, "a\nb"]
SEARCH = "/v1/371/0341/search"


def shop(data: Path) -> Path:
    snapshot_of(data, [f"p{n}" for n in range(30)] + ODD, vectors(*range(30 + len(ODD))))
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return shop(tmp_path)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """Of a shop that stays as it is."""
    return create_app(Snapshots(shop(tmp_path_factory.mktemp("shop")))).test_client()


@pytest.mark.parametrize(
    "wrong",
    [
        "diversity=2", "diversity=x", "diversity=-1", "diversity=nan", "collapse=brand", "offset=-1", "offset=x",
        "offset=1001", "offset=991", "min_score=1.01", "min_score=nan", "verdict=none",
        "filter=colour:red", "filter=name", "filter=name:1..2", "exclude=%22a", "exclude=%22a%22b",
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(client: FlaskClient, wrong: str) -> None:
    answer = client.get(f"/v1/371/0341/products/p3/similar?{wrong}")
    assert answer.status_code == 400
    assert answer.get_json()["detail"].startswith(wrong.partition("=")[0])


def test_what_is_wanted_of_the_answers(client: FlaskClient) -> None:
    def ids(query: str) -> list[str]:
        found = client.get(f"/v1/371/0341/products/p3/similar?{query}")
        return [result["product_id"] for result in json.loads(found.data)["results"]]

    everything = ids("k=1000")
    assert ids("k=5&offset=5") == everything[5:10]
    odd = [name for name in ODD if name not in ("//", "x" * 9000)]
    assert ids("k=1000&exclude=p1,p2&exclude=p4,%22" + quote("a/b") + "%22") == [
        name for name in everything if name not in ("p1", "p2", "p4", "a/b")
    ]
    assert set(ids("filter=name:P1!,p2!&filter=name:p2!")) == {"p2"}
    assert set(ids("filter=" + quote(";".join(f'name:"{name}!"' for name in odd[:1])))) == {odd[0]}
    scores = [result["score"] for result in results(client.get("/v1/371/0341/products/p3/similar?k=1000"))]
    assert len(ids(f"k=1000&min_score={scores[7]}")) == 8


def test_product_to_products(client: FlaskClient) -> None:
    found = results(client.get("/v1/371/0341/products/p3/similar?k=5"))
    assert len(found) == 5
    assert "p3" not in [result["product_id"] for result in found]
    assert found[0].keys() == {
        "rank", "product_id", "score", "verdict", "image_id", "image_url", "attributes",
    }  # fmt: skip
    assert found[0]["attributes"] == {"name": found[0]["product_id"] + "!"}
    assert len(results(client.get("/v1/371/0341/products/p3/similar"))) == 10


@pytest.mark.fault("C5")
@pytest.mark.parametrize("name", ODD)
def test_any_product_id_is_found_verbatim(client: FlaskClient, name: str) -> None:
    assert len(results(client.get(f"/v1/371/0341/products/{quote(name, safe='')}/similar?k=3"))) == 3


def without_fast_path(app: Flask) -> None:
    outer: Any = app.wsgi_app
    while not isinstance(outer._app, FastPath):
        outer = outer._app
    outer._app = outer._app._app


def body(answer: TestResponse) -> bytes:
    """The content of an answer. The head of a gzip file also has the time."""
    return gzip.decompress(answer.data) if answer.headers.get("Content-Encoding") == "gzip" else answer.data


@pytest.mark.parametrize("query", ["", "?k=1", "?k=12", "?k=007", "?k=1000", "?k=0", "?k=3&k=4", "?k=%33", "?x=1"])
def test_the_quick_way_answers_as_the_long_way_does(data: Path, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, long = (create_app(Snapshots(data)) for _ in range(2))
    without_fast_path(long)
    tag = Snapshot.current(data, HOCKEY).id
    sent = [
        {"If-None-Match": given} for given in (f'"{tag}"', f'W/"{tag}"', f'"x", "{tag}"', f'"x{tag}"', "*", "", "\xff")
    ]
    sent += [{"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip", "If-None-Match": f'"{tag}:gzip"'}, {}]
    for name in ["p1", "p29", "nope", "p1/similar", "\xff", *ODD]:
        for place in (quote(name, safe=""), quote(name, safe="/"), "%ff"):
            url = f"/v1/371/0341/products/{place}/similar{query}"
            for headers in sent if name == "p1" else [{}]:
                headers = {**headers, "X-Request-ID": "same"}
                one, other = (app.test_client().get(url, headers=headers) for app in (quick, long))
                assert (one.status, body(one), list(one.headers)) == (other.status, body(other), list(other.headers))
    monkeypatch.setattr(quick, "full_dispatch_request", lambda *_: 1 / 0)
    if query in ("", "?k=12"):
        assert quick.test_client().get(f"/v1/371/0341/products/p1/similar{query}").status_code == 200


@pytest.mark.parametrize("form", ["raw", "curl", "multipart", "json", "data-url"])
def test_photo_to_products_in_every_form(client: FlaskClient, form: str) -> None:
    photo = drawn(7)
    text = base64.b64encode(photo).decode()
    sent: dict[str, dict[str, Any]] = {
        "raw": {"data": photo, "content_type": "image/jpeg"},
        "curl": {"data": photo, "content_type": "application/x-www-form-urlencoded"},
        "multipart": {"data": {"image": (io.BytesIO(photo), "photo.jpg")}},
        "json": {"json": {"image_base64": text}},
        "data-url": {"json": {"image_base64": f"data:image/jpeg;base64,{text}"}},
    }
    found = results(client.post(f"{SEARCH}?k=3", **sent[form]))
    assert found[0]["product_id"] == "p7"
    assert found[0]["score"] > 0.999


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("k", ["0", "-1", "1000000000", "x", "", "2.5", "1001", "+5", "٣", "1e2", " 5"])
def test_a_wrong_k_is_400_and_names_the_range(client: FlaskClient, k: str) -> None:
    similar = client.get("/v1/371/0341/products/p3/similar", query_string={"k": k})
    search = client.post(SEARCH, query_string={"k": k}, data=drawn(1))
    for answer in (similar, search):
        assert "1 to 1,000" in problem(answer, 400)["detail"]


@pytest.mark.fault("Q2")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/371/0341/products/nope/similar", 404),
        ("/v1/9/9/products/p1/similar", 404),
        ("/v1/371/0341/products//similar", 404),
        ("/v1/../../etc/products/p1/similar", 404),
        ("/nothing", 404),
        ("/v1/371/0341/search", 405),
    ],
)
def test_unknown_places(client: FlaskClient, path: str, status: int) -> None:
    problem(client.get(path), status)


@pytest.mark.fault("I1")
@pytest.mark.fault("Q5")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 400),
        ({"data": b"hello"}, 415),
        ({"data": b"<html></html>", "content_type": "image/jpeg"}, 415),
        ({"data": drawn(1)[:300]}, 422),
        ({"data": drawn(1) + bytes(10 * 1024 * 1024)}, 413),
        ({"data": bytes(MAX_BODY + 1)}, 413),
        ({"data": {"image": (io.BytesIO(b""), "empty.jpg")}}, 400),
        ({"data": {"photo": (io.BytesIO(drawn(1)), "wrong-field.jpg")}}, 400),
        ({"data": {"image": [(io.BytesIO(drawn(1)), "1.jpg"), (io.BytesIO(drawn(2)), "2.jpg")]}}, 400),
        ({"data": {"image": "text"}, "content_type": "multipart/form-data"}, 400),
        ({"data": b"--x\r\n", "content_type": "multipart/form-data; boundary=other"}, 400),
        ({"data": b"", "content_type": "multipart/form-data"}, 400),
        ({"json": {}}, 400),
        ({"json": []}, 400),
        ({"json": {"image_base64": 5}}, 400),
        ({"json": {"image_base64": "!!"}}, 400),
        ({"json": {"image_base64": "é"}}, 400),
        ({"json": {"image_base64": base64.b64encode(b"hello").decode()}}, 415),
        ({"json": {"image_url": "http://127.0.0.1/x.jpg"}}, 400),
        ({"data": b"[" * 200_000, "content_type": "application/json"}, 400),
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"data": b"\xff\xfe{", "content_type": "application/json"}, 400),
    ],
)
def test_a_wrong_photo_is_4xx(client: FlaskClient, sent: dict[str, Any], status: int) -> None:
    problem(client.post(SEARCH, **sent), status)


@pytest.mark.fault("Q3")
def test_a_photo_without_a_vector_is_422(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColourGrid, "embed", lambda self, images: np.full((len(images), 49), np.nan, np.float32))
    assert problem(client.post(SEARCH, data=drawn(1)), 422)["kind"] == "bad_vector"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(client: FlaskClient, method: str) -> None:
    problem(client.open("/v1/371/0341/products/p1/similar", method=method), 405)


def test_a_fault_of_ours_is_a_problem_too(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "similar_to_product", lambda *_: 1 / 0)
    detail = problem(client.get("/v1/371/0341/products/p1/similar"), 500)["detail"]
    assert "division" not in detail


def test_state(client: FlaskClient) -> None:
    (index,) = client.get("/v1/indexes").get_json()["indexes"]
    assert (index["department"], index["domain"], index["products"]) == ("371", "0341", 30 + len(ODD))
    assert client.get("/healthz").get_json() == {"status": "alive"}
    until(lambda: client.get("/readyz").status_code == 200)
    assert client.get("/readyz").get_json()["photo_search"] == {"371/0341": "ready"}


def test_every_partition_of_the_data_folder_is_served(data: Path) -> None:
    snapshot_of(data, ["x", "y"], vectors(1, 2), Partition("7", "0002"))
    client = create_app(Snapshots(data)).test_client()
    assert [result["product_id"] for result in results(client.get("/v1/7/0002/products/x/similar"))] == ["y"]
    problem(client.get("/v1/7/0002/products/p1/similar"), 404)


def test_without_a_snapshot_the_server_runs_and_is_not_ready(tmp_path: Path) -> None:
    client = create_app(Snapshots(tmp_path)).test_client()
    assert "make index" in problem(client.get("/readyz"), 503)["detail"]
    assert client.get("/healthz").status_code == 200
    problem(client.get("/v1/371/0341/products/p1/similar"), 404)


@pytest.mark.fault("R1")
def test_a_new_snapshot_is_swapped_in_and_a_bad_one_refused(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshots = Snapshots(data)
    client = create_app(snapshots).test_client()
    before = snapshots.get("371/0341")
    after = snapshot_of(data, ["p1", "new"], vectors(1, 99))
    snapshots.refresh()
    assert [result["product_id"] for result in results(client.get("/v1/371/0341/products/p1/similar"))] == ["new"]
    assert before.products.count == 30 + len(ODD)  # whoever still holds it can go on answering
    broken = snapshot_of(data, ["p1", "worse"], vectors(1, 98))
    (broken.folder / "index.faiss").write_bytes(b"junk")
    for _ in range(3):
        snapshots.refresh()
    assert snapshots.get("371/0341").id == after.id
    assert "index.faiss" in snapshots.refused["371/0341"]
    assert caplog.text.count("is refused") == 1
    (entry,) = entries(data)
    assert (entry["action"], entry["what"]["snapshot"]) == ("open", broken.id)
    assert "index.faiss" in entry["outcome"]
    hockey(data).activate(before.id)
    snapshots.refresh()
    assert snapshots.get("371/0341").id == before.id


@pytest.mark.fault("S6")
def test_a_snapshot_seen_half_copied_serves_when_it_is_whole(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_partition, "_RETRY_SECONDS", 0)
    path = Snapshot.current(data, HOCKEY).folder / "index.faiss"
    whole = path.read_bytes()
    path.unlink()
    snapshots = Snapshots(data)
    assert not snapshots.open
    path.write_bytes(whole)
    snapshots.refresh()
    assert snapshots.open


def test_one_unreadable_partition_does_not_cost_the_others(data: Path) -> None:
    for name, junk in (("a", b"\xff\xfe"), ("b", None)):
        current = data / "snapshots" / "999" / name / "CURRENT"
        current.parent.mkdir(parents=True)
        current.write_bytes(junk) if junk else current.mkdir()
    snapshots = Snapshots(data)
    assert set(snapshots.open) == {"371/0341"}
    assert set(snapshots.refused) == {"999/a", "999/b"}


def test_a_server_that_starts_while_the_new_snapshot_is_bad_serves_the_one_before(data: Path) -> None:
    before = Snapshot.current(data, HOCKEY).id
    (snapshot_of(data, ["p1", "worse"], vectors(1, 98)).folder / "index.faiss").write_bytes(b"junk")
    snapshots = Snapshots(data)
    assert snapshots.get("371/0341").id == before
    assert "index.faiss" in snapshots.refused["371/0341"]
    assert snapshots._partitions["371/0341"]._leases.keys() == {snapshots.get("371/0341").folder}


def test_what_nobody_expected_of_a_snapshot_costs_no_other(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = snapshot_of(data, ["a", "b"], vectors(1, 2), Partition("1", "2")).folder
    plain = Snapshot.__init__

    def odd(self: Snapshot, folder: Path, *rest: Any) -> None:
        plain(self, folder, *rest)
        if folder == other:
            raise TypeError("odd")

    monkeypatch.setattr(Snapshot, "__init__", odd)
    snapshots = Snapshots(data)
    for _ in range(3):
        snapshots.refresh()
    assert set(snapshots.open) == {"371/0341"}
    assert snapshots.refused == {"1/2": "It cannot be opened (TypeError)."}
    assert caplog.text.count("TypeError: odd") == 1


def test_a_snapshot_whose_network_cannot_be_had_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = Snapshots(data)
    client = create_app(snapshots).test_client()
    assert client.post(SEARCH, data=drawn(1)).status_code == 200
    before = snapshots.get("371/0341").id
    with monkeypatch.context() as newer:
        newer.setattr(ColourGrid, "spec", replace(ColourGrid.spec, fingerprint="of another version"))
        other = snapshot_of(data, ["p1", "p2"], vectors(1, 98)).id

    def refused() -> str:
        snapshots.refresh()
        return snapshots.refused.get("371/0341", "")

    until(refused)
    assert snapshots.get("371/0341").id == before
    assert f"Photos cannot be searched with the snapshot {other}: " in snapshots.refused["371/0341"]
    assert "this host has" in snapshots.refused["371/0341"]
    assert client.post(SEARCH, data=drawn(1)).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_a_network_that_failed_is_tried_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(ColourGrid, "embed", lambda self, images: 1 / 0)
        snapshots = Snapshots(data)
        client = create_app(snapshots).test_client()
        problem(client.post(SEARCH, data=drawn(1)), 503)
    snapshots.refresh()
    problem(client.post(SEARCH, data=drawn(1)), 503)
    monkeypatch.setattr(networks, "_RETRY_SECONDS", 0)
    snapshots.refresh()
    assert client.post(SEARCH, data=drawn(1)).status_code == 200


@pytest.mark.fault("S9")
def test_a_broken_snapshot_that_is_the_only_one(data: Path) -> None:
    (Snapshot.current(data, HOCKEY).folder / "products.jsonl").write_bytes(b"")
    client = create_app(Snapshots(data)).test_client()
    assert "products.jsonl" in problem(client.get("/readyz"), 503)["detail"]


@pytest.mark.fault("O2")
def test_a_network_that_cannot_be_had_costs_only_the_photos(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColourGrid, "embed", lambda self, images: 1 / 0)
    client = create_app(Snapshots(data)).test_client()
    assert "failed to load" in problem(client.post(SEARCH, data=drawn(1)), 503)["detail"]
    assert client.post(SEARCH, data=drawn(1)).headers["Retry-After"]
    problem(client.get("/readyz"), 503)
    assert results(client.get("/v1/371/0341/products/p3/similar"))


@needs_shared
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Werkzeug leaves broken forms open
def test_fuzzed_bodies_are_4xx(client: FlaskClient) -> None:
    for path in sorted((SHARED / "hostile" / "inputs" / "multipart").iterdir()):
        body = path.read_bytes()
        boundary = re.sub("[^!-~]", "", body[2:70].splitlines()[0].decode("latin-1").replace('"', "")) or "x"
        for content_type in (f'multipart/form-data; boundary="{boundary}"', "application/json", "image/png"):
            answer = client.post(SEARCH, data=body, content_type=content_type)
            assert answer.status_code < 500, path


@pytest.mark.fault("C5")
@needs_shared
def test_fuzzed_ids_are_404(client: FlaskClient) -> None:
    folder = SHARED / "hostile" / "inputs"
    names = json.loads((folder / "naughty_strings.json").read_text())
    names += (folder / "path_traversal.txt").read_text(errors="replace").splitlines()
    for name in random.Random(0).sample(names, min(len(names), 400)):
        place = quote(name.encode("utf-8", "surrogatepass"), safe="")
        assert client.get(f"/v1/371/0341/products/{place}/similar").status_code == 404, name


def test_the_contract_is_published_and_can_be_read(client: FlaskClient) -> None:
    contract = client.get("/openapi.json").get_json()
    assert contract["openapi"] == "3.1.0"
    assert contract["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert {"/v1/{department}/{domain}/products/{product_id}/similar", "/readyz"} <= contract["paths"].keys()
    with client.get("/docs") as page:
        text, policy = page.text, page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    for link in re.findall(r'(?:src|href)="(/[^"]+)"', text):
        with client.get(link) as part:
            assert part.status_code == 200
            assert part.mimetype in ("text/css", "text/javascript")
    problem(client.get("/docs/../app.py"), 404)
