import asyncio
import gzip
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from indexer.ingest import download
from indexer.ingest.download import Downloader, Fetched, Limits, Outcome, Unchanged, Validators
from shared.refusals import Kind, Refusal
from tests.support.image_server import ImageServer, reply, stalled
from tests.support.server import free_port

QUICK = Limits(connect=1, read=0.4, total=0.8, tries=3)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.random, "uniform", lambda low, high: 0.001)


async def fetch(url: str, known: Validators | None = None, limits: Limits = QUICK) -> Outcome:
    async with Downloader(limits) as downloader:
        return await downloader.fetch(url, known)


def kind(outcome: Outcome) -> Kind:
    assert isinstance(outcome, Refusal), outcome
    return outcome.kind


async def test_an_image_is_fetched_once_and_then_known(cdn: ImageServer) -> None:
    cdn.answers["/a.jpg"] = b"bytes"
    first = await fetch(f"{cdn.url}/a.jpg")
    assert isinstance(first, Fetched)
    assert first.data == b"bytes"
    assert await fetch(f"{cdn.url}/a.jpg", first.validators) == Unchanged()
    assert cdn.bodies["/a.jpg"] == 1


@pytest.mark.fault("N2")
@pytest.mark.fault("N3")
@pytest.mark.parametrize(
    ("status", "expected", "tries"),
    [
        (404, Kind.GONE, 1),
        (410, Kind.GONE, 1),
        (403, Kind.HTTP_ERROR, 1),
        (500, Kind.HTTP_ERROR, 3),
        (503, Kind.HTTP_ERROR, 3),
        (429, Kind.HTTP_ERROR, 3),
        (408, Kind.HTTP_ERROR, 3),
    ],
)
async def test_only_what_may_pass_is_tried_again(cdn: ImageServer, status: int, expected: Kind, tries: int) -> None:
    cdn.answers["/a.jpg"] = lambda handler: reply(handler, status, b"no")
    assert kind(await fetch(f"{cdn.url}/a.jpg")) == expected
    assert cdn.requests["/a.jpg"] == tries


@pytest.mark.fault("N3")
async def test_retry_after_is_honoured(cdn: ImageServer) -> None:
    def busy(handler: BaseHTTPRequestHandler) -> None:
        cdn.answers["/a.jpg"] = b"bytes"
        reply(handler, 429, b"", Retry_After="1")

    cdn.answers["/a.jpg"] = busy
    started = time.monotonic()
    # the wait is longer than the deadline, which counts the network's time only
    assert isinstance(await fetch(f"{cdn.url}/a.jpg"), Fetched)
    assert time.monotonic() - started >= 1


@pytest.mark.fault("N3")
async def test_an_absurd_retry_after_is_capped(cdn: ImageServer) -> None:
    cdn.answers["/a.jpg"] = lambda handler: reply(handler, 503, b"", Retry_After="86400")
    started = time.monotonic()
    assert kind(await fetch(f"{cdn.url}/a.jpg", limits=Limits(tries=2, longest_wait=0.2))) == Kind.HTTP_ERROR
    assert time.monotonic() - started < 30


@pytest.mark.fault("N3")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("", 0), ("soon", 0), ("-3", 0), ("9" * 400, float("inf")), ("Sun, 22 Nov 2026 10:00:30 GMT", 30)],
)
def test_retry_after_forms(text: str, seconds: float) -> None:
    now = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
    assert download._retry_after(text, lambda: now) == seconds


@pytest.mark.fault("N1")
async def test_a_stalled_image_ends_at_its_deadline_and_delays_no_other(cdn: ImageServer) -> None:
    good = [f"/good{n}.jpg" for n in range(60)]
    cdn.answers.update(dict.fromkeys(good, b"x"))
    cdn.answers.update({f"/stalled{n}.jpg": stalled for n in range(3)})
    finished: dict[str, float] = {}
    async with Downloader(Limits(connections=8, per_host=8, read=1, total=2, tries=3)) as downloader:
        started = time.monotonic()

        async def one(path: str) -> Outcome:
            outcome = await downloader.fetch(cdn.url + path)
            finished[path] = time.monotonic() - started
            return outcome

        outcomes = await asyncio.gather(*(one(path) for path in [*list(cdn.answers)[60:], *good]))
    assert [kind(outcome) for outcome in outcomes[:3]] == [Kind.TIMEOUT] * 3
    assert all(isinstance(outcome, Fetched) for outcome in outcomes[3:])
    waited = [seconds for path, seconds in finished.items() if path not in good]
    assert max(finished[path] for path in good) < min(waited)  # while the stalled ones still hold their places
    assert max(waited) < 20  # an answer would take 30


@pytest.mark.parametrize(("connections", "per_host"), [(3, 9), (9, 3)])
async def test_connections_are_bounded_in_all_and_per_host(cdn: ImageServer, connections: int, per_host: int) -> None:
    lock, busy, most = threading.Lock(), 0, 0

    def slow(handler: BaseHTTPRequestHandler) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        reply(handler, 200, b"x")

    cdn.answers.update({f"/{n}.jpg": slow for n in range(30)})
    async with Downloader(Limits(connections=connections, per_host=per_host)) as downloader:
        await asyncio.gather(*(downloader.fetch(cdn.url + path) for path in cdn.answers))
    assert most == 3


@pytest.mark.fault("N1")
async def test_a_body_that_trickles_is_cut_at_the_deadline(cdn: ImageServer) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)

    cdn.answers["/a.jpg"] = trickle
    started = time.monotonic()
    assert kind(await fetch(f"{cdn.url}/a.jpg", limits=Limits(read=4, total=0.8, tries=3))) == Kind.TIMEOUT
    assert cdn.requests["/a.jpg"] == 1  # nothing is left for another try
    assert time.monotonic() - started < 8  # the body would take 10


@pytest.mark.fault("N6")
async def test_a_short_body_is_a_failure(cdn: ImageServer) -> None:
    def short(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.close_connection = True

    cdn.answers["/a.jpg"] = short
    assert kind(await fetch(f"{cdn.url}/a.jpg")) == Kind.CONNECTION_FAILED
    assert cdn.requests["/a.jpg"] == 3


@pytest.mark.fault("N6")
async def test_bodies_are_cut_at_the_limit_also_when_packed(cdn: ImageServer) -> None:
    cdn.answers["/long.jpg"] = bytes(2_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    cdn.answers["/bomb.jpg"] = lambda handler: reply(handler, 200, bomb, Content_Encoding="gzip")
    limits = Limits(bytes=1_000_000)
    assert kind(await fetch(f"{cdn.url}/long.jpg", limits=limits)) == Kind.TOO_LARGE
    assert kind(await fetch(f"{cdn.url}/bomb.jpg", limits=limits)) == Kind.TOO_LARGE


@pytest.mark.fault("N4")
async def test_redirects_stay_on_the_host_and_end(cdn: ImageServer) -> None:
    def to(place: str) -> object:
        return lambda handler: reply(handler, 302, b"", Location=place)

    cdn.answers |= {"/a": to("/b"), "/b": to(f"{cdn.url}/c"), "/c": b"bytes"}  # type: ignore[dict-item]
    cdn.answers |= {"/loop": to("/loop"), "/file": to("file:///etc/passwd"), "/empty": to("")}  # type: ignore[dict-item]
    cdn.answers["/host"] = to(cdn.url.replace("127.0.0.1", "localhost") + "/c")  # type: ignore[assignment]
    assert isinstance(await fetch(f"{cdn.url}/a"), Fetched)
    for path in ("/loop", "/file", "/host"):
        assert kind(await fetch(cdn.url + path)) == Kind.REFUSED_REDIRECT
    assert cdn.requests["/c"] == 1
    assert cdn.requests["/loop"] == 4


async def test_nothing_listens() -> None:
    assert kind(await fetch(f"http://127.0.0.1:{free_port()}/a.jpg")) == Kind.CONNECTION_FAILED


@pytest.mark.parametrize("url", ["http://", "http://[::1/a", "http:///a.jpg"])
async def test_a_url_that_is_none(url: str) -> None:
    assert kind(await fetch(url)) == Kind.BAD_URL


@pytest.mark.fault("N5")
@pytest.mark.slow
def test_a_bad_certificate_is_never_accepted(cdn: ImageServer, tmp_path: Path) -> None:
    import ssl
    import subprocess

    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    made = subprocess.run(
        ["openssl", "req", "-x509", *key, "-subj", "/CN=127.0.0.1"], cwd=tmp_path, capture_output=True
    )
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    cdn._server.socket = context.wrap_socket(cdn._server.socket, server_side=True)
    assert kind(asyncio.run(fetch(cdn.url.replace("http:", "https:") + "/a.jpg"))) == Kind.TLS_ERROR


async def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a b.jpg"
    path.write_bytes(b"bytes")
    first = await fetch(path.as_uri())
    assert isinstance(first, Fetched)
    assert await fetch(path.as_uri(), first.validators) == Unchanged()
    path.write_bytes(b"other bytes")
    assert isinstance(await fetch(path.as_uri(), first.validators), Fetched)
    assert kind(await fetch(path.as_uri(), limits=Limits(bytes=3))) == Kind.TOO_LARGE
    assert kind(await fetch((tmp_path / "none.jpg").as_uri())) == Kind.GONE
