"""Clients that are gone while they wait, of a real server: for the cores, for a thread, in the midst of a batch."""

import base64
import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.inference.photo_queue import PhotoQueue
from tests.support.answers import ask, of, samples
from tests.support.live_client import ADMIN, KEY
from tests.support.pictures import drawn, vectors
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of

BASE = "/v1/371/0341"
PHOTO = drawn(3, (90, 90))
TAKEN = 8  # more than any server embeds at once
pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """A server of one worker."""
    snapshot_of(tmp_path, [f"p{n}" for n in range(30)], vectors(*range(30)))
    (tmp_path / "temporary").mkdir()
    with serving(tmp_path, TMPDIR=str(tmp_path / "temporary"), SIMILARITY_ADMIN_KEY=KEY) as base:
        yield base


class Cores:
    """All cores of that server, taken by photos of another worker."""

    def __init__(self, temporary: Path) -> None:
        (line,) = temporary.glob("*/line")
        self.queue = PhotoQueue(line)
        self.places = [self.queue._taken() for _ in range(TAKEN)]
        self.queue._since[self.places] = 1.0

    def waiting(self) -> int:
        """The number of photos that wait for them."""
        return int(np.count_nonzero(self.queue._since)) - TAKEN

    def release(self) -> None:
        self.queue._since[self.places] = 0


@pytest.fixture
def cores(base: str, tmp_path: Path) -> Cores:
    return Cores(tmp_path / "temporary")


def sent(base: str, method: str, path: str, body: bytes, version: str = "1.1") -> socket.socket:
    """A client that has sent a request."""
    client = socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), timeout=30)
    head = f"{method} {BASE}{path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    kind = "image/jpeg" if body == PHOTO else "application/json"
    key = f"Authorization: {ADMIN['Authorization']}\r\n"
    client.sendall(f"{head}{key}Content-Type: {kind}\r\n\r\n".encode() + body)
    return client


def reset(client: socket.socket) -> None:
    """Close a connection as a process does that is killed with unread bytes."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def received(client: socket.socket) -> bytes:
    with client:
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def counted(base: str, name: str, **labels: str) -> float:
    return of(samples(ask(f"{base}/metrics")[1].decode()), name, **labels)


def test_photos_of_clients_that_are_gone_leave_the_queue_and_are_not_embedded(base: str, cores: Cores) -> None:
    leaving = [sent(base, "POST", "/search", PHOTO) for _ in range(14)]
    half = [sent(base, "POST", "/search?k=1", PHOTO, version) for version in ("1.1", "1.0")]
    staying = sent(base, "POST", "/search?k=1", PHOTO)
    until(lambda: cores.waiting() == 17)
    for number, client in enumerate(leaving):
        (reset if number % 2 else socket.socket.close)(client)
    for client in half:
        client.shutdown(socket.SHUT_WR)
    until(lambda: cores.waiting() == 3)  # while nobody was embedded
    until(lambda: counted(base, "similarity_refusals_total", kind="client-gone") == 14)
    assert counted(base, "similarity_stage_seconds_count", stage="embed") == 0
    cores.release()
    asked, old, whole = (received(client) for client in (*half, staying))
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert old.startswith((b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"))
    assert whole.startswith(b"HTTP/1.1 200 OK")
    for found in (asked, old, whole):
        assert json.loads(found.rpartition(b"\r\n\r\n")[2])["results"][0]["product_id"] == "p3"


def test_a_batch_ends_with_its_client(base: str, cores: Cores) -> None:
    photo = {"image_base64": base64.b64encode(PHOTO).decode()}
    questions = {"questions": [photo] * 12 + [{"product_id": "p1"}] * 12}
    client = sent(base, "POST", "/batch", json.dumps(questions).encode())
    until(lambda: cores.waiting() == 4)
    client.close()
    until(lambda: cores.waiting() == 0)
    until(lambda: counted(base, "similarity_request_seconds_count", status="499") == 1)
    cores.release()
    assert ask(f"{base}{BASE}/search", PHOTO)[0] == 200
    assert counted(base, "similarity_stage_seconds_count", stage="decode") == 5
    assert counted(base, "similarity_refusals_total", kind="client-gone") == 1


def test_what_waits_for_a_thread_is_dropped_but_no_change(base: str, cores: Cores) -> None:
    photo = {"image_base64": base64.b64encode(PHOTO).decode()}
    busy = [sent(base, "POST", "/similar", json.dumps({"like": [photo]}).encode()) for _ in range(24)]

    def all_threads_are_busy() -> bool:
        with sent(base, "GET", "/products/p1/similar", b"") as probe, contextlib.suppress(TimeoutError):
            probe.settimeout(0.5)
            return not probe.recv(1)
        return True

    until(all_threads_are_busy)
    for _ in range(10):
        sent(base, "GET", "/products?limit=1", b"").close()
    sent(base, "PUT", "/availability", json.dumps({"unavailable": ["p7"]}).encode()).close()
    cores.release()
    assert {received(client)[:12] for client in busy} == {b"HTTP/1.1 200"}
    rule = "/v1/<department>/<domain>/products"
    until(lambda: counted(base, "similarity_request_seconds_count", route=rule, status="499") == 10)
    until(lambda: json.loads(ask(f"{base}{BASE}/availability", **ADMIN)[1]) == {"unavailable": ["p7"]})
