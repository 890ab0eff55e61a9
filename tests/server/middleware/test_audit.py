"""The audit log of a server: an entry for each change by an admin, none for others, and no secret in it."""

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.app import create_app
from server.config import ServerConfig
from server.middleware.api_keys import read_keys
from server.serving.snapshots import Snapshots
from shared.audit import NAME
from tests.support.answers import of, samples
from tests.support.api_keys import bearing, command
from tests.support.audit import entries
from tests.support.live_client import ADMIN, BASE, KEY, Client, picture
from tests.support.pictures import vectors
from tests.support.snapshots import snapshot_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(30)], vectors(*range(30), size=(48, 48)))
    return tmp_path


def test_each_change_of_an_admin_leaves_its_entry(data: Path) -> None:
    client = Client(data, "https://cdn.example/{id}.jpg?X-Amz-Signature=signed")
    client.ask("PUT", "/availability", json={"unavailable": [f"p{n}" for n in range(25)]})
    client.ask("PATCH", "/availability", json={"available": ["p1"]})
    client.ask("PUT", "/products/p1/pins", json={"pinned": ["p2"], "blocked": []})
    client.ask("DELETE", "/products/p1/pins")
    client.put("new", 1, 2, attributes={"note": "private"})
    client.ask("DELETE", "/products/new")
    client.ask("DELETE", "/changes?product_id=new")
    client.ask("DELETE", "/changes")
    assert client.http.post("/admin/reload", headers=ADMIN).status_code == 202
    products, route = "/v1/<department>/<domain>/products/<product:product_id>", "/v1/<department>/<domain>"
    pins = "/v1/<department>/<domain>/products/<id:product_id>/pins"
    first = {"count": 25, "first": [f"p{n}" for n in range(20)]}
    none = {"count": 0, "first": []}
    assert [(entry["action"], entry["what"]) for entry in entries(data)] == [
        (f"PUT {route}/availability", {"unavailable": first}),
        (f"PATCH {route}/availability", {"unavailable": none, "available": {"count": 1, "first": ["p1"]}}),
        (f"PUT {pins}", {"product_id": "p1", "pinned": {"count": 1, "first": ["p2"]}, "blocked": none}),
        (f"DELETE {pins}", {"product_id": "p1"}),
        (f"PUT {products}", {"product_id": "new", "images": 2, "change": 5}),
        (f"DELETE {products}", {"product_id": "new"}),
        (f"DELETE {route}/changes", {"products": {"count": 1, "first": ["new"]}, "dropped": 1}),
        (f"DELETE {route}/changes", {"products": "all", "dropped": 0}),
        ("POST /admin/reload", {}),
    ]
    assert [entry.get("partition") for entry in entries(data)] == ["371/0341"] * 8 + [None]
    assert {entry["outcome"] for entry in entries(data)} == {"done"}
    text = (data / NAME).read_text()
    sent = base64.b64encode(picture(1)).decode()
    assert not [secret for secret in (KEY, "signed", "private", sent[:40]) if secret in text]


def test_an_entry_names_the_key_the_request_and_the_outcome(data: Path) -> None:
    reader, admin = (
        command(data / "keys.json", "add", "shop"),
        command(data / "keys.json", "add", "ops", "--role=admin"),
    )
    keys = {key.name: key for key in read_keys(data / "keys.json")}
    config = ServerConfig(data, keys=data / "keys.json", admin_key=KEY)
    client = create_app(Snapshots(data), config).test_client()
    (data / NAME).unlink()
    sent = {"X-Request-ID": "mine", **bearing(admin)["headers"]}
    assert client.delete(f"{BASE}/products/nope", headers=sent).status_code == 404
    assert client.put(f"{BASE}/availability", headers=sent, json={"unavailable": 5}).status_code == 400
    for other in (bearing(reader), bearing("wrong"), {}):
        assert client.delete(f"{BASE}/products/p1", **other).status_code in (401, 403)
    assert client.get(f"{BASE}/availability", headers=sent).status_code == 200
    assert client.put(f"{BASE}/products/p1/pins", headers=ADMIN, json={}).status_code == 200
    missing, wrong, own = entries(data)
    assert missing["actor"] == wrong["actor"] == {"key": "ops", "key_id": keys["ops"].id}
    assert (missing["request_id"], missing["outcome"]) == ("mine", "refused: 404")
    assert (missing["partition"], missing["what"]) == ("371/0341", {"product_id": "nope"})
    assert wrong["outcome"] == "refused: 400"
    assert own["actor"] == {"key": "admin-key"}  # and not the beginning of its hash, for it may be weak
    assert abs((datetime.now(UTC) - datetime.fromisoformat(own["time"])).total_seconds()) < 600
    assert not [secret for secret in (reader, admin, KEY) if secret in (data / NAME).read_text()]


def test_a_change_is_made_where_its_entry_cannot_be_written_and_the_log_has_it(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (data / NAME).mkdir()
    client = Client(data)

    def lost() -> float:
        return of(samples(client.http.get("/metrics").text), "similarity_not_audited_total")

    before = lost()
    client.ask("PUT", "/availability", json={"unavailable": ["p3"]})
    assert client.ask("GET", "/availability") == {"unavailable": ["p3"]}
    assert lost() == before + 1
    (told,) = [entry.getMessage() for entry in caplog.records if "audit" in entry.getMessage()]
    line = json.loads(told[told.index("{") :])
    assert line["what"]["unavailable"] == {"count": 1, "first": ["p3"]}


def test_keys_leave_an_entry_before_and_after(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = command(file, "add", "shop")
    (key,) = read_keys(file)
    command(file, "remove", key.id)
    what = {"keys": {"count": 1, "first": [f"shop read {key.id}"]}, "file": str(file)}
    found = entries(tmp_path)
    assert [(entry["action"], entry["outcome"]) for entry in found] == [
        ("keys add", "begun"),
        ("keys add", "done"),
        ("keys remove", "begun"),
        ("keys remove", "done"),
    ]
    assert {json.dumps(entry["what"]) for entry in found} == {json.dumps(what)}
    assert {entry["actor"]["pid"] for entry in found} == {os.getpid()}
    assert secret not in (tmp_path / NAME).read_text()
    assert key.sha256 not in (tmp_path / NAME).read_text()


def test_no_key_changes_where_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    command(file, "add", "shop")
    before = file.read_bytes()
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    for words in (["add", "other"], ["remove", "shop"]):
        with pytest.raises(OSError, match=r"The audit log .* cannot be written"):
            command(file, *words)
        assert file.read_bytes() == before
