"""The proxy of deploy/: the real nginx in front of a real server."""

import json
import re
import select
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from server.api.photo_body import MAX_BODY
from tests.support.answers import ask
from tests.support.pictures import drawn, vectors
from tests.support.project import ROOT
from tests.support.proxy import proxied
from tests.support.server import free_port, serving, until
from tests.support.snapshots import snapshot_of

SIMILAR = "/v1/371/0341/products/p1/similar"
SEARCH = "/v1/371/0341/search?k=1"
SLOW = {
    "silent": b"",
    "drips its head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
    "drips its body": b"POST /v1/371/0341/search HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\nx",
    "does not read": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a server and of the proxy in front of it."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("proxy")
    snapshot_of(data, ["p1", "p2"], vectors(1, 2))
    options = {"SIMILARITY_PROXY": "127.0.0.1", "SIMILARITY_RATE": "1000", "SIMILARITY_ADMIN_KEY": "an admin's key"}
    with serving(data, **options) as base, proxied(base, folder) as url:
        yield base, url


@pytest.fixture
def proxy(both: tuple[str, str]) -> str:
    return both[1]


def problem(proxy: str, request: str) -> dict[str, Any]:
    """The problem that answers these bytes."""
    with socket.create_connection(("127.0.0.1", int(proxy.rpartition(":")[2])), timeout=20) as client:
        client.sendall(request.encode())
        with HTTPResponse(client) as answer:
            answer.begin()
            assert answer.headers["Content-Type"] == "application/problem+json"
            told: dict[str, Any] = json.loads(answer.read())
            assert told["status"] == answer.status
            return told


def test_products_photos_and_the_page_are_asked_through_it(proxy: str) -> None:
    status, body, headers = ask(proxy + SIMILAR, **{"X-Request-ID": "mine"})
    assert (status, headers["X-Request-ID"]) == (200, "mine")
    assert [result["product_id"] for result in json.loads(body)["results"]] == ["p2"]
    assert ask(proxy + SEARCH, drawn(1, (64, 64)))[0] == 200
    assert {ask(proxy + path)[0] for path in ("/", "/web/page.js", "/docs", "/openapi.json", "/healthz")} == {200}


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/admin/reload", "//admin/reload", "/v1/..%2fadmin/reload", "/v1/../metrics"]
)
def test_what_is_not_public_is_not_reached(path: str, proxy: str) -> None:
    key = "Authorization: Bearer an admin's key"
    for method in ("GET", "POST"):
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        told = problem(proxy, request)
        assert told["status"] == 404
        assert "There is no such path here" in told["detail"]  # the proxy's own words


def test_too_much_is_refused_as_the_server_would(proxy: str) -> None:
    assert f"client_max_body_size {MAX_BODY};" in (ROOT / "deploy" / "nginx.conf").read_text()
    post = f"POST {SEARCH} HTTP/1.1\r\nHost: x\r\nContent-Length: "
    for request, status in (
        (f"{post}{MAX_BODY + 1}\r\n\r\n", 413),
        (f"GET /v1/{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("nothing\r\n\r\n", 400),
    ):
        assert problem(proxy, request)["status"] == status


def test_the_servers_limits_count_the_clients_address(proxy: str) -> None:
    left = []
    for source in ("127.0.0.3", "127.0.0.4", "127.0.0.3"):
        client = HTTPConnection(proxy.removeprefix("http://"), timeout=20, source_address=(source, 0))
        client.request("GET", SIMILAR, headers={"X-Forwarded-For": "192.0.2.1"})
        with client.getresponse() as answer:
            left.append(answer.headers["RateLimit-Remaining"])
        client.close()
    assert left == ["999", "999", "998"]


def test_bodies_wait_in_the_proxy_and_an_address_may_send_64(both: tuple[str, str]) -> None:
    server, proxy = (int(url.rpartition(":")[2]) for url in both)
    with ExitStack() as open_:
        slow = [open_.enter_context(socket.create_connection(("127.0.0.1", proxy), timeout=20)) for _ in range(70)]
        for client in slow:
            client.sendall(SLOW["drips its body"])
        answered = list[socket.socket]()

        def refused() -> int:
            answered[:] = select.select(slow, [], [], 0)[0]
            return len(answered)

        until(lambda: refused() == 6)
        assert {client.recv(12) for client in answered} == {b"HTTP/1.1 429"}
        to_server = f":{server:04X} 01 "  # as Linux lists a connection that is open, by its other end
        assert Path("/proc/net/tcp").read_text().count(to_server) < 10


@pytest.mark.parametrize("sort", SLOW)
def test_125_slow_clients_delay_nobody(sort: str, proxy: str) -> None:
    """They come from one address, which has few connections; the others come from another."""
    address = ("127.0.0.1", int(proxy.rpartition(":")[2]))
    with ExitStack() as open_:
        slow = [open_.enter_context(socket.create_connection(address, timeout=20)) for _ in range(125)]
        for client in slow:
            with suppress(ConnectionError):
                client.sendall(SLOW[sort])
        good = HTTPConnection(proxy.removeprefix("http://"), timeout=10, source_address=("127.0.0.2", 0))
        open_.callback(good.close)
        until(lambda: ask(f"{proxy}/healthz")[0] == 200)  # with all of them there
        start = time.monotonic()
        for _ in range(5):
            good.request("GET", SIMILAR)
            with good.getresponse() as answer:
                assert answer.status == 200
                answer.read()
            for client in slow if "drips" in sort else ():
                with suppress(OSError):
                    client.sendall(b"x")
        assert time.monotonic() - start < 10  # one slow client alone would take longer


def test_it_speaks_tls_where_it_has_a_certificate(tmp_path: Path) -> None:
    port, certificate, tls = free_port(), tmp_path / "certificate", tmp_path / "tls"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [*make, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(certificate) + ".key", "-out", certificate],
        check=True,
        capture_output=True,
    )
    tls.mkdir()
    with_key = f"ssl_certificate {certificate}; ssl_certificate_key {certificate}.key;"
    (tls / "tls.conf").write_text(f"listen 127.0.0.1:{port} ssl; {with_key}")
    snapshot_of(tmp_path, ["p1", "p2"], vectors(1, 2))
    with serving(tmp_path) as base, proxied(base, tmp_path):
        trusted = ssl.create_default_context(cafile=certificate)
        with urllib.request.urlopen(f"https://127.0.0.1:{port}{SIMILAR}", timeout=20, context=trusted) as answer:
            assert answer.status == 200


def test_no_query_is_logged() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    (line,) = re.findall(r"log_format .*;", text)
    assert "$request_uri" not in line
    assert "$request " not in line
    assert "$args" not in line
