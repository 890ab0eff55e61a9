"""Requests that are hardly HTTP, and uploads that hold no photo: 4xx, and the worker lives on."""

import contextlib
import http.client
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from shared.images.decode import MAX_BYTES
from tests.support.answers import ask
from tests.support.pictures import drawn, vectors
from tests.support.processes import workers
from tests.support.project import SHARED, needs_shared, often
from tests.support.server import serving
from tests.support.snapshots import snapshot_of

Record = Callable[[str, object], None]
SEARCH = "/v1/371/0341/search"
HOST = b"Host: x\r\n"
GET, POST = b"GET /healthz HTTP/1.1\r\n", f"POST {SEARCH} HTTP/1.1\r\n".encode()
PHOTO = drawn(1)
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one worker, which is the same when all is over."""
    data = tmp_path_factory.mktemp("data")
    snapshot_of(data, ["p1", "p2"], vectors(1, 2))
    with serving(data) as base:
        before = workers(base)
        yield base
        assert workers(base) == before


def exchange(base: str, sent: bytes) -> bytes:
    """All that the server answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), timeout=30) as client:
        received = bytearray()
        with contextlib.suppress(ConnectionError):  # it may have refused them before it read all
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                received += part
    return bytes(received)


def statuses(answers: bytes) -> list[int]:
    """The final statuses: who has ended its side is sent 100 as well, to see if it is there."""
    return [status for status in map(int, re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)) if status >= 200]


@pytest.mark.fault("Q6")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="no HTTP"),
        pytest.param(b"GET\r\n\r\n", 400, id="no target"),
        pytest.param(bytes(range(256)) + b"\r\n\r\n", 400, id="bytes"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400, id="HTTP/9.9"),
        pytest.param(b"GET http://[::1/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, id="half an address"),
        pytest.param(GET + b"Host : x\r\n\r\n", 400, id="space in a name"),
        pytest.param(GET + b"Host\r\n\r\n", 400, id="no colon"),
        pytest.param(GET + b"X: a\0b\r\n" + HOST + b"\r\n", 400, id="NUL"),
        pytest.param(GET + b"X: a\r\n b\r\n" + HOST + b"\r\n", 400, id="folded line"),
        pytest.param(GET + b"X: a\r\n" * 1000 + b"\r\n", 431, id="1,000 headers"),
        pytest.param(GET + b"X: " + b"a" * 100_000 + b"\r\n\r\n", 431, id="long header"),
        pytest.param(GET + b"X: a\r\n" * 400_000, 431, id="endless head"),
        pytest.param(POST + HOST + b"Content-Length: -1\r\n\r\n", 400, id="length of -1"),
        pytest.param(POST + HOST + b"Content-Length: x\r\n\r\n", 400, id="length of x"),
        pytest.param(POST + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, id="two lengths"),
        pytest.param(
            POST + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="length and chunks",
        ),
        pytest.param(POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400, id="wrong chunk"),
        pytest.param(POST + HOST + b"Transfer-Encoding: odd\r\n\r\n0\r\n\r\n", 501, id="unknown coding"),
    ],
)
def test_what_is_no_http_is_refused_and_nothing_behind_it_is_read(base: str, sent: bytes, status: int) -> None:
    assert statuses(exchange(base, sent + GET + HOST + b"\r\n")) == [status]


def mutated(seed: int, count: int) -> Iterator[bytes]:
    """Requests of every sort in which some bytes are changed, doubled or left out."""
    form = part("image", PHOTO, "1.jpg") + end()
    typed = b"Content-Type: " + FORM.encode() + b"\r\n"
    whole = [
        GET + HOST + b'Accept-Encoding: gzip\r\nIf-None-Match: "x"\r\nX-Request-ID: a\r\n\r\n',
        b"GET /v1/371/0341/products/p1/similar?k=3&filter=name:a%20b HTTP/1.1\r\n" + HOST + b"\r\n",
        POST + HOST + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO,
        POST + HOST + typed + b"Content-Length: %d\r\n\r\n" % len(form) + form,
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(PHOTO) + PHOTO + b"\r\n0\r\n\r\n",
        POST + HOST + b'Content-Type: application/json\r\nContent-Length: 24\r\n\r\n{"image_base64": "AAAA"}',
    ]
    odd = [b"\0", b"\r", b"\n", b"\r\n", b" ", b":", b"\t", b"\xff", b"%", b"-1", b"9" * 30, b";", b'"', b"/", b"\x80"]
    dice = random.Random(seed)
    for number in range(count):
        data = bytearray(whole[number % len(whole)])
        for _ in range(dice.choice((1, 1, 2, 5))):
            at, size = dice.randrange(min(len(data), 300)), dice.choice((1, 1, 2, 10))
            data[at : at + dice.choice((0, size))] = dice.choice((b"", bytes(data[at : at + size]), *odd))
        yield bytes(data)


@pytest.mark.fault("Q6")
def test_mutated_requests_are_answered_or_closed_and_none_is_a_fault_of_ours(
    base: str, record_property: Record
) -> None:
    seen = Counter[object]()
    for sent in mutated(3, often(5000, 800)):
        found = statuses(exchange(base, sent))
        assert all(status < 500 or status in (501, 505) for status in found), (found, sent[:300])
        seen[found[0] if found else "closed"] += 1
    record_property("answers", dict(sorted(seen.items(), key=str)))
    assert seen[200]
    assert seen[400]
    assert ask(f"{base}/readyz")[0] == 200


def part(field: str, content: bytes, file: str = "") -> bytes:
    name = f'; filename="{file}"' if file else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{name}\r\n\r\n'.encode() + content + b"\r\n"


def end() -> bytes:
    return f"--{BOUNDARY}--\r\n".encode()


def upload(base: str, body: bytes, kind: str, chunked: bool = False) -> int:
    """The status of an upload, or 413 where the server hangs up in the middle of one that is too large."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        with contextlib.suppress(ConnectionError):
            pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
            connection.request(
                "POST", SEARCH, pieces if chunked else body, {"Content-Type": kind}, encode_chunked=chunked
            )
        return connection.getresponse().status


@pytest.mark.fault("Q5")
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(part("image", PHOTO, "1.jpg") + end(), FORM, 200, id="one file"),
        pytest.param(end(), FORM, 400, id="no part"),
        pytest.param(part("image", b"text") + end(), FORM, 400, id="no file"),
        pytest.param(part("image", PHOTO, "1.jpg") * 2 + end(), FORM, 400, id="two files"),
        pytest.param(part("image", bytes(MAX_BYTES + 1), "1.jpg") + end(), FORM, 413, id="10 MiB + 1"),
        pytest.param(bytes(MAX_BYTES * 2), "image/jpeg", 413, id="20 MiB"),
        pytest.param(part("a", b"1") * 1000 + end(), FORM, 400, id="1,000 parts"),
        pytest.param(part("a", b"1") * 100_000 + end(), FORM, 413, id="100,000 parts"),
        pytest.param(part("image", PHOTO, "1.jpg") + end(), FORM + "x", 400, id="wrong boundary"),
        pytest.param(part("image", PHOTO, "1.jpg") + end(), "multipart/form-data", 400, id="no boundary"),
        pytest.param(part("image", PHOTO, "1.jpg"), FORM, 400, id="no end"),
    ],
)
def test_an_upload_is_one_photo_or_refused_in_chunks_too(base: str, body: bytes, kind: str, status: int) -> None:
    assert upload(base, body, kind) == status
    assert upload(base, body, kind, chunked=True) == status


@pytest.mark.fault("B7")
@pytest.mark.fault("Q5")
@pytest.mark.parametrize(("chunks", "status"), [(45_000, 415), (200_000, 413)])
def test_a_body_in_very_many_chunks_takes_time_in_proportion_to_it(base: str, chunks: int, status: int) -> None:
    head = POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    began = time.monotonic()
    assert statuses(exchange(base, head + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")) == [status]
    assert time.monotonic() - began < 10  # with a copy of all for each it would be a minute


@pytest.mark.fault("Q5")
@needs_shared
def test_fuzzed_forms_hold_no_photo(base: str, record_property: Record) -> None:
    forms = sorted((SHARED / "hostile" / "inputs" / "multipart").iterdir())
    seen = Counter[int]()
    for path in forms:
        body = path.read_bytes()
        boundary = re.sub("[^!-~]", "", body[2:70].splitlines()[0].decode("latin-1").replace('"', "")) or "x"
        seen[upload(base, body, f'multipart/form-data; boundary="{boundary}"')] += 1
    record_property("forms", dict(seen))
    assert seen.keys() <= {400, 413}
    assert len(forms) > 100
