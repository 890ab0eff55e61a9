"""Photos by URL: from allowed hosts on the public internet only, whatever names, redirects and bodies try."""

import contextlib
import gzip
import http.server
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.app import create_app
from server.fetching.fetcher import Address
from server.fetching.photos import Fetch, Safety, is_public
from server.serving.snapshots import Snapshots
from shared.errors import BadPicture, BadQuestion, Busy
from shared.images.decode import MAX_BYTES
from tests.support.answers import results
from tests.support.image_server import ImageServer, reply, stalled
from tests.support.pictures import drawn, vectors
from tests.support.project import SHARED
from tests.support.server import until
from tests.support.snapshots import snapshot_of

LOOPBACK = ipaddress.ip_address("127.0.0.1")
PUBLIC = ipaddress.ip_address("93.184.215.14")


class Names:
    """A resolver that tells what it is told, one answer after another, and keeps whom it was asked for."""

    def __init__(self, *answers: list[Address]) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def fetcher(cdn: ImageServer, *hosts: str, seconds: float = 5.0) -> Fetch:
    """A `Fetch` that is let to this server on loopback under any of the names."""
    port = urlsplit(cdn.url).port
    assert port
    admits = LOOPBACK.__eq__
    return Fetch(",".join(hosts), Safety(Names([LOOPBACK]), admits, frozenset({80, 443, port}), seconds))


def kind(fetch: Fetch, url: str) -> str:
    with pytest.raises(BadPicture) as caught:
        fetch(url)
    return str(caught.value.kind)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whom anything tried to connect to."""
    made: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: made.append(address))
    return made


@pytest.mark.fault("U1")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "0.0.0.0", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808", "64:ff9b:1::1", "2002:a9fe:a9fe::", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
        "3fff::1", "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str, connections: list[object]) -> None:
    assert not is_public(ipaddress.ip_address(address))
    fetch = Fetch("cdn.example", Safety(Names([ipaddress.ip_address(address)])))
    assert kind(fetch, "http://cdn.example/1.jpg") == "refused_address"
    assert connections == []


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:220:1::1", "2a00:1450:4001::1"])
def test_public_addresses_are_admitted(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.fault("U1")
@pytest.mark.skipif(
    not (SHARED / "hostile" / "inputs" / "ssrf_urls.txt").exists(), reason="the list of hostile URLs is not here"
)
def test_hostile_urls_are_refused_without_a_connection_even_where_their_host_is_allowed(
    connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = socket.getaddrinfo

    def without_network(host: str, *rest: object, **more: object) -> object:
        # Numbers in any notation are read as the system reads them; names are those of the machine's own network.
        with contextlib.suppress(socket.gaierror):
            return find(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", without_network)
    urls = (SHARED / "hostile" / "inputs" / "ssrf_urls.txt").read_text().splitlines()
    assert len(urls) > 100
    for url in urls:
        host = ""
        with contextlib.suppress(ValueError):
            host = urlsplit(url).hostname or ""
        for allowed in (host, "cdn.example"):
            assert kind(Fetch(f"cdn.example,{allowed}"), url) in ("refused_address", "bad_url"), url
    assert connections == []


def refusing(went: list[object]) -> Callable[[socket.socket, object], None]:
    def connect(_: socket.socket, address: object) -> None:
        went.append(address)
        raise ConnectionRefusedError

    return connect


@pytest.mark.fault("U2")
def test_the_connection_goes_to_the_address_that_was_checked(cdn: ImageServer) -> None:
    """A name that is public when it is checked and loopback when it is connected to."""
    names = Names([PUBLIC], [LOOPBACK])
    went: list[object] = []
    fetch = Fetch("cdn.example", Safety(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refusing(went))
        assert kind(fetch, "http://cdn.example/1.jpg") == "connection_failed"
    assert went == [("93.184.215.14", 80)]
    assert names.asked == ["cdn.example"]


def test_of_several_addresses_only_public_ones_are_connected_to() -> None:
    went: list[object] = []
    fetch = Fetch("cdn.example", Safety(Names([LOOPBACK, PUBLIC])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refusing(went))
        assert kind(fetch, "https://cdn.example/1.jpg") == "connection_failed"
    assert went == [("93.184.215.14", 443)]


def test_where_nobody_listens_at_one_address_the_next_is_asked(cdn: ImageServer) -> None:
    cdn.answers["/1.jpg"] = drawn(1)
    port = urlsplit(cdn.url).port or 0
    names = Names([ipaddress.ip_address("127.0.0.9"), LOOPBACK])
    fetch = Fetch("cdn.example", Safety(names, lambda address: address.is_loopback, frozenset({port})))
    assert fetch(f"http://cdn.example:{port}/1.jpg") == drawn(1)


@pytest.mark.fault("U3")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///etc/passwd", "bad_url"),
        ("gopher://cdn.example:80/", "bad_url"),
        ("data:image/png;base64,AAAA", "bad_url"),
        ("ftp://cdn.example/1.jpg", "bad_url"),
        ("//cdn.example/1.jpg", "bad_url"),
        ("1.jpg", "bad_url"),
        ("", "bad_url"),
        ("http://", "bad_url"),
        ("http://user:secret@cdn.example/1.jpg", "bad_url"),
        ("http://cdn.example@127.0.0.1/1.jpg", "bad_url"),
        ("http://cdn.example:22/1.jpg", "bad_url"),
        ("http://cdn.example:99999/1.jpg", "bad_url"),
        ("http://cdn.example:x/1.jpg", "bad_url"),
        ("http://[::1/1.jpg", "bad_url"),
        ("http://cdn.example\\@127.0.0.1/", "bad_url"),
        ("http://cdn.example/a b", "bad_url"),
        ("http://cdn.example/\r\nHost: x", "bad_url"),
        ("http://cdn.example/é", "bad_url"),
        ("http://other.example/1.jpg", "refused_address"),
        ("http://cdn.example.evil.example/1.jpg", "refused_address"),
        ("http://xcdn.example/1.jpg", "refused_address"),
    ],
)
def test_what_is_no_url_of_an_allowed_host(url: str, expected: str, connections: list[object]) -> None:
    names = Names([PUBLIC])
    assert kind(Fetch("cdn.example", Safety(names)), url) == expected
    assert connections == names.asked == []


def test_a_photo_is_fetched_from_an_allowed_host(cdn: ImageServer) -> None:
    port = urlsplit(cdn.url).port
    heard: list[str | None] = []

    def picture(handler: http.server.BaseHTTPRequestHandler) -> None:
        heard.extend(handler.headers.get_all(name, [""])[0] for name in ("Host", "Accept-Encoding"))
        reply(handler, 200, drawn(1))

    cdn.answers["/a.jpg?size=2"] = picture
    fetch = fetcher(cdn, " CDN.example. ", "other.example")
    assert fetch(f"http://cdn.EXAMPLE:{port}/a.jpg?size=2#part") == drawn(1)
    assert heard == [f"cdn.EXAMPLE:{port}", "identity"]


def to(location: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, 302, b"", Location=location)


@pytest.mark.fault("U4")
def test_every_redirect_is_checked(cdn: ImageServer) -> None:
    port = urlsplit(cdn.url).port
    here = f"http://cdn.example:{port}"
    fetch = fetcher(cdn, "cdn.example", "other.example")
    cdn.answers |= {"/ok": to(f"http://other.example:{port}/b"), "/b": to("c"), "/c": drawn(2)}
    assert fetch(f"{here}/ok") == drawn(2)
    for number, (place, expected) in enumerate(
        [
            ("http://127.0.0.1/", "refused_address"),
            (f"http://127.0.0.1:{port}/c", "refused_address"),
            ("http://evil.example/", "refused_address"),
            ("file:///etc/passwd", "bad_url"),
            (f"//user@cdn.example:{port}/c", "bad_url"),
            (f"http://cdn.example:{port + 1 if port else 0}/", "bad_url"),
            ("/loop", "refused_redirect"),
            ("http://[", "refused_redirect"),
        ]
    ):
        cdn.answers |= {f"/{number}": to(place), "/loop": to("/loop")}
        assert kind(fetch, f"{here}/{number}") == expected, place
    assert cdn.requests["/loop"] == 3
    # The name of an allowed host may come to mean another address between the hops.
    moved = Fetch("cdn.example", Safety(Names([LOOPBACK], [PUBLIC]), LOOPBACK.__eq__, frozenset({port or 0})))
    assert kind(moved, f"{here}/b") == "refused_address"


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65536))


def dribbled_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    _dribble(handler, b"x")


def dribbled_head(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    _dribble(handler, b"X-More: 1\r\n")


def _dribble(handler: http.server.BaseHTTPRequestHandler, part: bytes) -> None:
    for _ in range(200):
        handler.wfile.write(part)
        handler.wfile.flush()
        time.sleep(0.05)


def short(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"too short")
    handler.close_connection = True


@pytest.mark.fault("U5")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (endless, "too_large"),
        (bytes(MAX_BYTES + 1), "too_large"),
        (stalled, "timeout"),
        (dribbled_body, "timeout"),
        (dribbled_head, "timeout"),
        (short, "connection_failed"),
        (lambda handler: handler.wfile.write(b"not http\r\n\r\n"), "connection_failed"),
        (lambda handler: reply(handler, 404, b""), "gone"),
        (lambda handler: reply(handler, 500, b""), "http_error"),
        (lambda handler: reply(handler, 304, b""), "http_error"),
        (lambda handler: reply(handler, 206, drawn(1)), "http_error"),
    ],
)
def test_what_a_host_does_wrong_ends_in_time(
    cdn: ImageServer, answer: Callable[[http.server.BaseHTTPRequestHandler], None] | bytes, expected: str
) -> None:
    cdn.answers["/x"] = answer
    began = time.monotonic()
    assert kind(fetcher(cdn, "cdn.example", seconds=1.0), f"http://cdn.example:{urlsplit(cdn.url).port}/x") == expected
    assert time.monotonic() - began < 8  # what dribbles would take 10


@pytest.mark.fault("U5")
def test_a_compressed_body_is_not_unpacked(cdn: ImageServer) -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    cdn.answers["/x"] = lambda handler: reply(handler, 200, bomb, Content_Encoding="gzip")
    assert fetcher(cdn, "cdn.example")(f"http://cdn.example:{urlsplit(cdn.url).port}/x") == bomb


def test_a_name_that_resolves_slowly_or_not_at_all() -> None:
    def slow(_: str) -> list[Address]:
        time.sleep(1.5)
        return [PUBLIC]

    def none(_: str) -> list[Address]:
        raise socket.gaierror("no such name")

    assert kind(Fetch("cdn.example", Safety(slow, seconds=0.3)), "http://cdn.example/") == "timeout"
    assert kind(Fetch("cdn.example", Safety(none)), "http://cdn.example/") == "connection_failed"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server with a certificate of its own for cdn.example; its port, and the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cdn.example"]
    names = ["-addext", "subjectAltName=DNS:cdn.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *names], check=True, capture_output=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/down":
                reply(self, 302, b"", Location=f"http://cdn.example:{self.server.server_port}/")  # type: ignore[attr-defined]
            reply(self, 200, drawn(3))

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port, certificate
        server.shutdown()


@pytest.mark.fault("N5")
@pytest.mark.slow
def test_certificates_are_checked_for_the_name_not_the_address(
    tls: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, certificate = tls
    safety = Safety(Names([LOOPBACK]), LOOPBACK.__eq__, frozenset({port}))
    hosts = "cdn.example,other.example"
    assert kind(Fetch(hosts, safety), f"https://cdn.example:{port}/") == "tls_error"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Fetch(hosts, safety)(f"https://cdn.example:{port}/") == drawn(3)
    assert kind(Fetch(hosts, safety), f"https://other.example:{port}/") == "tls_error"
    assert kind(Fetch(hosts, safety), f"https://cdn.example:{port}/down") == "refused_redirect"


def test_nothing_is_fetched_without_allowed_hosts(connections: list[object]) -> None:
    for hosts in ("", " , "):
        with pytest.raises(BadQuestion, match="not enabled"):
            Fetch(hosts)("http://cdn.example/1.jpg")
    assert connections == []


def test_only_so_many_photos_are_fetched_at_once(cdn: ImageServer) -> None:
    cdn.answers["/x"] = stalled
    fetch = fetcher(cdn, "cdn.example", seconds=2.0)
    url = f"http://cdn.example:{urlsplit(cdn.url).port}/x"
    waiting = [threading.Thread(target=kind, args=(fetch, url)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    until(lambda: cdn.requests["/x"] == 8)
    with pytest.raises(Busy, match="8 photos"):
        fetch(url)
    for thread in waiting:
        thread.join()
    assert kind(fetch, url) == "timeout"


def test_a_photo_by_url_is_searched_and_its_refusal_told(tmp_path: Path, cdn: ImageServer) -> None:
    snapshot_of(tmp_path, ["p0", "p1", "p2"], vectors(0, 1, 2))
    cdn.answers |= {"/1.jpg": drawn(1), "/text": b"hello"}
    client = create_app(Snapshots(tmp_path), fetch=fetcher(cdn, "cdn.example")).test_client()
    here = f"http://cdn.example:{urlsplit(cdn.url).port}"
    found = results(client.post("/v1/371/0341/search?k=1", json={"image_url": f"{here}/1.jpg"}))
    assert found[0]["product_id"] == "p1"
    for url, status, why in (
        ("http://10.0.0.1/", 400, "refused_address"),
        ("file:///etc/passwd", 400, "bad_url"),
        (f"{here}/none", 422, "gone"),
        (f"{here}/text", 415, "unsupported_format"),
    ):
        answer = client.post("/v1/371/0341/search", json={"image_url": url})
        assert (answer.status_code, json.loads(answer.data)["kind"]) == (status, why)
