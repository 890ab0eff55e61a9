"""Changes between index runs over HTTP: the contract, many workers, kills, and the next index run."""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from server.api.uploads import MOST_IMAGES
from server.app import create_app
from server.fetching import catalog_images
from shared.images.decode import decode
from tests.support.image_server import ImageServer, stalled
from tests.support.live_client import ADMIN, BASE, KEY, Client, picture
from tests.support.pictures import drawn, vectors
from tests.support.processes import commands, workers
from tests.support.project import ROOT
from tests.support.server import free_port, serving, until, wait_for
from tests.support.snapshots import snapshot_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(30)], vectors(*range(30), size=(48, 48)))
    return tmp_path


@pytest.fixture
def client(data: Path) -> Client:
    return Client(data)


def test_what_is_unavailable_is_asked_and_never_answered(client: Client) -> None:
    first, second = client.similar("p1", 2)
    assert client.ask("PUT", "/availability", json={"unavailable": [first, "?"]}) == {"change": 1, "unknown": ["?"]}
    assert client.similar("p1", 1) == [second]
    assert first not in client.similar("p1", 1000)
    assert len(client.similar(first, 1000)) == 29
    assert client.seen(int(first[1:])) != [first]
    client.ask("PATCH", "/availability", json={"unavailable": [second], "available": ["?"]})
    assert client.ask("GET", "/availability") == {"unavailable": sorted([first, second])}
    assert not {first, second} & set(client.similar("p1", 1000))
    client.ask("PUT", "/availability", json={"unavailable": [f"p{n}" for n in range(30)]})
    assert client.similar("p1") == []
    assert client.seen(1) == []
    client.ask("PUT", "/availability", json={"unavailable": []})
    assert client.similar("p1", 2) == [first, second]


def test_pins_come_first_in_their_order_and_what_is_blocked_never(client: Client) -> None:
    far, others = client.similar("p1", 1000)[-2:], client.similar("p1", 3)
    client.ask("PUT", "/products/p1/pins", json={"pinned": ["nope", *far], "blocked": others[:1]})
    assert client.similar("p1", 4) == [*far, *others[1:]]
    assert client.similar("p1", 1) == far[:1]
    assert client.similar("p2", 1000).count(far[0]) == 1
    assert client.ask("GET", "/products/p1/pins") == {"pinned": ["nope", *far], "blocked": others[:1]}
    client.ask("PATCH", "/availability", json={"unavailable": far[:1]})
    assert client.similar("p1", 3) == [far[1], *others[1:]]
    client.ask("DELETE", "/products/p1/pins")
    assert client.similar("p1", 3) == others


def test_a_product_is_put_asked_answered_replaced_and_deleted(client: Client) -> None:
    assert client.put("new/ one", 100, 101, attributes={"brand": "é", "size": 42})["images"] == 2
    assert client.seen(101) == ["new/ one"]
    assert len(client.similar("new/ one", 1000)) == 30
    assert "new/ one" in client.similar("p3", 1000)
    answer = client.ask("POST", "/search?k=1", data=picture(100))["results"][0]
    assert (answer["image_id"], answer["attributes"]) == ("i100", {"brand": "é", "size": "42"})
    assert answer["image_url"].startswith("live:")
    client.put("p3", 103)
    assert client.seen(103) == ["p3"]
    assert client.seen(3) != ["p3"]
    client.put("p3", 3)
    assert (client.seen(103) != ["p3"], client.seen(3)) == (True, ["p3"])
    for name in ("new/ one", "p3", "p4"):
        client.ask("DELETE", f"/products/{quote(name, safe='')}")
        assert client.http.get(f"{BASE}/products/{quote(name, safe='')}/similar").status_code == 404
        client.ask("DELETE", f"/products/{quote(name, safe='')}", 404)
    assert len(client.similar("p5", 1000)) == 27
    changes = client.ask("GET", "/changes")["changes"]
    assert [(change["product_id"], change["what"], change["indexed"]) for change in changes] == [
        ("new/ one", "deleted", False),
        ("p3", "deleted", False),
        ("p4", "deleted", False),
    ]
    assert client.ask("DELETE", "/changes?product_id=p3&product_id=nope") == {"dropped": 1}
    assert client.seen(3) == ["p3"]
    assert client.ask("DELETE", "/changes") == {"dropped": 2}
    assert client.seen(4) == ["p4"]


@pytest.mark.slow
def test_what_was_put_is_browsed_and_seen_and_what_was_deleted_is_not(data: Path, cdn: ImageServer) -> None:
    client = Client(data, cdn.url + "/{id}.jpg")
    cdn.answers["/a.jpg"] = picture(11)
    for change in (0, 1):
        client.put("new", 300 + change, attributes={"name": "Élan pants"})
    client.put("p3", 303)
    client.ask("PUT", "/products/p4", json={"images": [{"image_id": "a"}]})
    client.ask("DELETE", "/products/p5")
    everything = client.ask("GET", "/products?limit=100")
    names = [f"p{n}" for n in range(30) if n not in (3, 4, 5)] + ["new", "p3", "p4"]
    assert (everything["total"], [found["product_id"] for found in everything["products"]]) == (30, names)
    assert [found["product_id"] for found in client.ask("GET", "/products?limit=2&offset=28")["products"]] == names[-2:]
    for text, found in (
        ("elan", ["new"]),
        ("p3", ["p3"]),
        ("p5", []),
        ("p2!", ["p2", *(f"p{n}" for n in range(20, 30))]),
    ):
        assert [one["product_id"] for one in client.ask("GET", f"/products?text={text}")["products"]] == found
    assert [image["image_id"] for image in client.ask("GET", "/products/new")["images"]] == ["i301"]
    client.ask("GET", "/products/p5", 404)
    seen = client.http.get(f"{BASE}/products/new/image?size=32")
    assert (seen.status_code, seen.mimetype) == (200, "image/jpeg")
    assert np.asarray(decode(seen.data)).shape == (32, 32, 3)
    again = client.http.get(f"{BASE}/products/new/image?size=32", headers={"If-None-Match": seen.headers["ETag"]})
    assert again.status_code == 304
    assert client.http.get(f"{BASE}/products/p4/image").headers["Location"] == f"{cdn.url}/a.jpg"
    assert cdn.url in client.http.get("/").headers["Content-Security-Policy"]
    assert client.ask("GET", "/attributes")["attributes"]
    printed = subprocess.run(
        [sys.executable, "-m", "server", "similar", "--data", str(data), "--json", "371/0341", "new"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert [one["product_id"] for one in json.loads(printed.stdout)["results"]] == client.similar("new")


def test_a_change_changes_the_etag_and_another_process_gives_the_same(client: Client, data: Path) -> None:
    def tag(one: Client) -> str:
        quick = one.http.get(f"{BASE}/products/p1/similar").headers["ETag"]
        assert quick == one.http.get(f"{BASE}/products/p1/similar?diversity=0").headers["ETag"]
        return quick

    tags = [tag(client)]
    for path, sent in (("/availability", {"unavailable": ["p9"]}), ("/products/p1/pins", {"pinned": ["p8"]})):
        client.ask("PUT", path, json=sent)
        tags.append(tag(client))
    client.put("p2", 7)
    tags.append(tag(client))
    assert len(set(tags)) == 4
    assert tag(Client(data)) == tags[-1]


def test_an_image_is_put_in_every_form(data: Path, cdn: ImageServer) -> None:
    client = Client(data, cdn.url + "/{id}.jpg?c={colour}")
    cdn.answers["/x1.jpg?c=red"] = picture(201)
    client.ask("PUT", "/products/a", json={"images": [{"image_id": "x1"}], "attributes": {"colour": "red"}})
    assert client.seen(201) == ["a"]
    client.ask("PUT", "/products/b", data={"image": [(io.BytesIO(picture(n)), f"{n}.jpg") for n in (202, 203)]})
    assert (client.seen(202), client.seen(203)) == (["b"], ["b"])
    form = {"image": (io.BytesIO(picture(204)), "x.jpg"), "attributes": '{"brand": "w"}'}
    client.ask("PUT", "/products/c", data=form)
    assert client.ask("POST", "/search?k=1", data=picture(204))["results"][0]["attributes"] == {"brand": "w"}


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        ({"json": {"images": []}}, 400, ""),
        ({"json": {"images": [{"image_id": ""}]}}, 400, ""),
        ({"json": {"images": [{"image_id": "x" * 1001, "image_base64": "AA=="}]}}, 400, ""),
        ({"json": {"images": [{"image_id": f"{n}", "image_base64": "AA=="} for n in range(MOST_IMAGES + 1)]}}, 400, ""),
        ({"json": {"images": [{"image_id": "a", "image_base64": "AA=="}] * 2}}, 400, ""),
        ({"json": {"images": [{"image_id": "a", "image_base64": "!"}]}}, 400, ""),
        ({"json": {"images": [{"image_id": "\ud800", "image_base64": "AA=="}]}}, 400, ""),
        ({"json": {"images": [{"image_id": "a", "image_base64": "AA=="}]}}, 415, "unsupported_format"),
        ({"json": {"images": [{"image_id": "a", "image_base64": ""}]}}, 400, "empty"),
        ({"json": {"images": [{"image_id": "a"}], "attributes": {"x": {}}}}, 400, ""),
        ({"json": {"images": [{"image_id": "a"}]}}, 422, "gone"),
        ({"json": {"images": [{"image_id": "stalled"}]}}, 422, "timeout"),
        ({"json": {"images": [{"image_id": "elsewhere"}]}}, 400, "refused_redirect"),
        ({"json": {"images": [{"image_id": "large"}]}}, 413, "too_large"),
        ({"json": []}, 400, ""),
        ({"data": b"{"}, 400, ""),
        ({"data": {"image": (io.BytesIO(drawn(1)[:300]), "a")}}, 422, "bad_image"),
        ({"data": {"picture": (io.BytesIO(drawn(1)), "a")}}, 400, ""),
        ({"data": {"image": (io.BytesIO(drawn(1)), "a"), "attributes": "{"}}, 400, ""),
    ],
)
def test_a_wrong_product_is_refused_and_changes_nothing(
    data: Path, cdn: ImageServer, sent: dict[str, Any], status: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_images, "POLICY", replace(catalog_images.POLICY, silence=0.3, size=1000))

    def elsewhere(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:1/x")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    cdn.answers |= {"/stalled": stalled, "/elsewhere": elsewhere, "/large": b"x" * 1001}
    client = Client(data, cdn.url + "/{id}")
    problem = client.ask("PUT", "/products/p1", status, **sent)
    assert problem.get("kind", "") == kind
    assert client.ask("GET", "/changes")["changes"] == []
    assert client.seen(1) == ["p1"]
    assert not (data / "live").exists()


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("PUT", "/availability", {"unavailable": "p1"}, 400),
        ("PUT", "/availability", {}, 400),
        ("PATCH", "/availability", {"unavailable": ["a"], "available": ["a"]}, 400),
        ("PUT", "/products/p1/pins", {"pinned": ["a"], "blocked": ["a"]}, 400),
        ("PUT", "/products/p1/pins", {"pinned": ["a" * 1001]}, 400),
        ("PUT", f"/products/{'x' * 1001}/pins", {"pinned": []}, 400),
        ("PUT", f"/products/{'x' * 1001}", {"images": []}, 400),
        ("DELETE", "/products/nope", None, 404),
    ],
)
def test_wrong_lists_are_named(client: Client, method: str, path: str, sent: Any, status: int) -> None:
    client.ask(method, path, status, json=sent)


def test_an_image_by_its_id_needs_a_template_and_its_attributes(data: Path) -> None:
    images = {"images": [{"image_id": "1"}]}
    assert "IMAGE_URL" in Client(data).ask("PUT", "/products/a", 400, json=images)["detail"]
    assert "colour" in Client(data, "http://cdn/{colour}").ask("PUT", "/products/a", 400, json=images)["detail"]


def test_only_an_admin_changes_anything(client: Client) -> None:
    without = create_app(client.snapshots).test_client()
    for method, path in (
        ("PUT", "/availability"),
        ("GET", "/availability"),
        ("PUT", "/products/p1"),
        ("DELETE", "/products/p1"),
        ("PUT", "/products/p1/pins"),
        ("GET", "/changes"),
        ("DELETE", "/changes"),
    ):
        for headers in ({}, {"Authorization": "Bearer nope"}):
            assert client.http.open(BASE + path, method=method, headers=headers).status_code == 401
        assert without.open(BASE + path, method=method, headers=ADMIN).status_code == 404


def test_a_damaged_journal_is_told_and_costs_no_answers(client: Client, data: Path) -> None:
    client.put("p1", 100)
    for path in (data / "live" / "371").iterdir():
        path.unlink()
    (data / "live" / "371" / "0341.sqlite").write_bytes(b"no database" * 1000)
    assert client.seen(100) == ["p1"]  # as it was
    assert "live changes" in client.http.get("/readyz").get_json()["live_changes"]["371/0341"]
    other = Client(data)
    assert other.seen(1) == ["p1"]
    other.ask("PUT", "/availability", 503, json={"unavailable": []})


def call(url: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    """Status and JSON of an answer, whatever the status. Raises `OSError` where the connection breaks."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    kind = "application/json" if data is not body else "image/jpeg"
    asked = urllib.request.Request(url, data, {**ADMIN, "Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(str(error)) from error


def product(seed: int) -> dict[str, Any]:
    image = {"image_id": f"i{seed}", "image_base64": base64.b64encode(picture(seed)).decode()}
    return {"images": [image], "attributes": {"seed": str(seed)}}


@contextlib.contextmanager
def alone(pid: int, pids: list[int]) -> Iterator[None]:
    """Of these processes, only that one runs."""
    others = [other for other in pids if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def check_every_worker(base: str, wanted: dict[str, int | None], count: int = 2) -> None:
    """Every worker answers with what each product should be by now: the seed of its picture, or None."""
    pids = workers(base)
    assert len(pids) == count
    for pid in pids:
        with alone(pid, pids):
            for name, seed in wanted.items():
                status, found = call(f"{base}{BASE}/products/{name}/similar?k=1000")
                assert status == (404 if seed is None else 200), (name, seed, found)
                if seed is not None:
                    there = {other for other, own in wanted.items() if own is not None} - {name}
                    assert {answer["product_id"] for answer in found["results"]} >= there
                    status, found = call(f"{base}{BASE}/search?k=1", "POST", picture(seed))
                    (answer,) = found["results"]
                    assert (answer["product_id"], answer["attributes"]) == (name, {"seed": str(seed)})


@pytest.mark.slow
def test_a_change_is_in_every_workers_answers_within_a_second(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_ADMIN_KEY", KEY)
    with serving(data, workers=3) as base:
        for round_ in range(3):
            assert call(f"{base}{BASE}/products/new", "PUT", product(300 + round_))[0] == 200
            assert call(f"{base}{BASE}/products/p7", "DELETE" if round_ == 0 else "GET")[0] in (200, 404, 405)
            assert call(f"{base}{BASE}/availability", "PUT", {"unavailable": [f"p{round_}"]})[0] == 200
            time.sleep(1)
            check_every_worker(base, {"new": 300 + round_, "p7": None}, 3)
            pids = workers(base)
            for pid in pids:
                with alone(pid, pids):
                    found = call(f"{base}{BASE}/products/new/similar?k=1000")[1]["results"]
                    assert len(found) == 28
                    assert f"p{round_}" not in {answer["product_id"] for answer in found}


def test_changes_are_followed_while_a_snapshot_is_being_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(data)
    opening = threading.Event()
    monkeypatch.setattr(client.snapshots, "refresh", lambda: opening.wait(60))
    client.snapshots.follow()
    try:
        journal = client.snapshots.journal(client.snapshots.get("371/0341"))
        journal.delete("p1", indexed=True)
        until(lambda: client.http.get(f"{BASE}/products/p1/similar").status_code == 404)
    finally:
        opening.set()


class Editor:
    """Puts and deletes products of its own until each change is acknowledged, whatever happens to the server."""

    def __init__(self, base: str, number: int, changes: int) -> None:
        self.base, self.number, self.changes = base, number, changes
        self.wanted: dict[str, int | None] = {}
        self.broken = 0

    def work(self) -> None:
        rng = random.Random(self.number)
        for change in range(self.changes):
            name = rng.choice([f"new{self.number}-{rng.randrange(4)}", f"p{self.number + 10 * rng.randrange(3)}"])
            if rng.random() < 0.3 and self.wanted.get(name, 0 if name[0] == "p" else None) is not None:
                self._until(name, "DELETE", None, (200, 404))  # 404: an answer was lost, its change was not
                self.wanted[name] = None
            else:
                seed = 1000 * (self.number + 1) + change
                self._until(name, "PUT", product(seed), (200,))
                self.wanted[name] = seed

    def _until(self, name: str, method: str, body: Any, done: tuple[int, ...]) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                status, found = call(f"{self.base}{BASE}/products/{name}", method, body)
                if status in done:
                    return
                assert status == 503, found
            self.broken += 1
            time.sleep(0.1)
        raise AssertionError(f"{method} {name} was never acknowledged")


@pytest.mark.slow
def test_no_acknowledged_change_is_lost_under_load_and_kills(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_ADMIN_KEY", KEY)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "server", "--data", str(data), "--port", str(port), "--workers", "2"]

    def started() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"{base}/readyz", process)
        return process

    process = started()
    editors = [Editor(base, number, 25) for number in range(8)]  # 200 changes
    stop, asked = threading.Event(), list[int]()

    def load() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                asked.append(call(f"{base}{BASE}/products/p29/similar?k=20")[0])

    try:
        with ThreadPoolExecutor(11) as pool:
            for _ in range(3):
                pool.submit(load)
            editing = [pool.submit(editor.work) for editor in editors]
            for pause in (0.15, 0.5, 0.7, 0.7):  # the first while all still work, however fast the machine
                time.sleep(pause)
                with contextlib.suppress(IndexError, ProcessLookupError, StopIteration):
                    os.kill(random.choice(workers(base)), signal.SIGKILL)
            try:
                for editor in editing:
                    editor.result()
            finally:
                stop.set()
        wanted = {name: seed for editor in editors for name, seed in editor.wanted.items()}
        assert sum(editor.broken for editor in editors) > 0
        assert asked.count(200) > 20
        until(lambda: len(workers(base)) == 2)
        time.sleep(1)
        check_every_worker(base, wanted)
        # and the whole server
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for pid in [pid for pid, line in commands() if f"127.0.0.1:{port}".encode() in line]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process = started()
        check_every_worker(base, wanted)
    finally:
        stop.set()
        process.terminate()
        process.wait(30)
