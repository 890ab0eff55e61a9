"""Headers of every answer: an id, careful headers, a tag that saves sending again, gzip, and CORS where allowed."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.middleware.caching import WORTH_COMPRESSING
from server.middleware.request_log import RequestLog
from server.serving.snapshots import Snapshots
from tests.support.answers import problem
from tests.support.snapshots import snapshot_of, unit

SIMILAR = "/v1/371/0341/products/p1/similar"
EVERY = [SIMILAR, SIMILAR + "?k=0", "/healthz", "/v1/indexes", "/nothing", "/v1/371/0341/search", SIMILAR + "?k=99"]
SHOP = "https://shop.example"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(100)], unit(*[[1.0, n, 1] for n in range(100)]))
    return tmp_path


def client(data: Path, **options: Any) -> FlaskClient:
    return create_app(Snapshots(data), ServerConfig(data, **options)).test_client()


@pytest.mark.parametrize("path", EVERY)
def test_every_answer_has_an_id_and_careful_headers(data: Path, path: str) -> None:
    asked = client(data)
    headers = asked.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers.getlist("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert "Access-Control-Allow-Origin" not in headers
    assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-ID"])
    assert headers["X-Request-ID"] != asked.get(path).headers["X-Request-ID"]


@pytest.mark.parametrize("given", ["a", "Az-0_9.x", "x" * 64])
def test_a_sane_id_of_the_clients_is_taken_over(data: Path, given: str) -> None:
    for path in EVERY:
        answer = client(data).get(path, headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == given
        if answer.status_code >= 400:
            assert problem(answer, answer.status_code)["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "a\tb", "<script>", "a,b", "\u0663"])
def test_any_other_id_is_not(data: Path, given: str) -> None:
    headers = {"X-Request-ID": given.encode().decode("latin-1")}
    assert re.fullmatch("[0-9a-f]{16}", client(data).get(SIMILAR, headers=headers).headers["X-Request-ID"])


def test_a_page_says_itself_what_it_may_load() -> None:
    def page(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Security-Policy", "default-src 'self'")])
        return [b"page"]

    heard: list[tuple[str, str]] = []
    RequestLog(page)({}, lambda status, headers, *error: heard.extend(headers))
    assert [value for name, value in heard if name == "Content-Security-Policy"] == ["default-src 'self'"]


@pytest.mark.parametrize("query", ["", "?k=99", "?diversity=0", "?diversity=0.5"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_answer_is_not_sent_twice(data: Path, query: str, coding: str) -> None:
    asked, headers = client(data), {"Accept-Encoding": coding}
    first = asked.get(SIMILAR + query, headers=headers)
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-cache")
    again = asked.get(SIMILAR + query, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    kept = ("ETag", "Cache-Control", "Vary")
    assert [again.headers[name] for name in kept] == [first.headers[name] for name in kept]
    assert not {"Content-Type", "Content-Length"} & {name for name, _ in again.headers}
    assert asked.get(SIMILAR + query, headers={"If-None-Match": '"another"'}).status_code == 200
    assert "Cache-Control" not in asked.get(SIMILAR + "?k=0").headers
    snapshot_of(data, ["p1", "p2"], unit([1.0, 0], [0, 1.0]))
    assert client(data).get(SIMILAR, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_large_answers_are_compressed_and_small_ones_are_not(data: Path) -> None:
    asked = client(data)
    plain = asked.get(SIMILAR + "?k=99")
    assert len(plain.data) > WORTH_COMPRESSING
    small = asked.get(SIMILAR, headers={"Accept-Encoding": "gzip, br"})
    large = asked.get(SIMILAR + "?k=99", headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in small.headers
    assert large.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(large.data) == plain.data
    assert len(large.data) == int(large.headers["Content-Length"]) < len(plain.data) / 3
    assert {answer.headers["Vary"] for answer in (plain, small, large)} == {"Accept-Encoding"}


def test_pages_of_allowed_origins_may_ask_and_others_may_not(data: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    asked = client(data, cors_origins=f"{SHOP},https://other.example", keys=tmp_path / "keys.json")
    wish = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    for path in (SIMILAR, "/v1/371/0341/search"):
        before = asked.options(path, headers={"Origin": SHOP, **wish})
        assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (200, SHOP)
        assert before.headers["Access-Control-Allow-Headers"] == "authorization"
    for origin, allowed in ((SHOP, SHOP), ("https://evil.example", None), ("https://shop.example.evil", None)):
        answer = asked.get(SIMILAR, headers={"Origin": origin})
        problem(answer, 401)
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "X-Request-ID" in asked.get(SIMILAR, headers={"Origin": SHOP}).headers["Access-Control-Expose-Headers"]
    problem(client(data).options(SIMILAR, headers={"Origin": SHOP, **wish}), 405)
