"""Clients of a server under load: good requests, which must be answered, and bad ones, which must be refused."""

import base64
import http.client
import json
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event, Lock
from urllib.parse import quote

from shared.partition import Partition

_PATIENCE = 60.0
_NOW = 2.0  # seconds for which a killed worker's connections are still noticed
_KEPT = 20  # failures that are told
_ANEW = 20  # requests of one connection
_TRIES = 6  # until a request that is told to come again has failed
_REFUSED = frozenset({400, 404, 413, 415, 422})
_PAGES = ("/", "/docs", "/openapi.json", "/metrics", "/healthz", "/v1/indexes", "/web/page.js", "/web/style.css")


class Outcome(StrEnum):
    """The end of a request: as it must be, told to come again (503 with `Retry-After`, when the machine is busy), cut
    off with its killed worker, or not as it must be."""

    RIGHT = "right"
    AGAIN = "told to come again"
    CUT = "cut by a kill"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a kind, and the statuses that are right."""

    kind: str
    path: str
    body: bytes | None = None
    method: str = "GET"
    right: frozenset[int] = frozenset({200})


@dataclass(slots=True)
class Tally:
    """The outcomes of requests by kind, and the first failures in words. `killed`: when a worker was killed last. For
    many threads."""

    counts: dict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    slowest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    failures: list[str] = field(default_factory=list)
    killed: float = float("-inf")
    _lock: Lock = field(default_factory=Lock)

    def add(self, kind: str, outcome: Outcome, seconds: float = 0.0, why: str = "") -> None:
        """Count a request."""
        with self._lock:
            self.counts[kind][outcome] += 1
            self.slowest[kind] = max(self.slowest[kind], seconds)
            if outcome is Outcome.FAILED and len(self.failures) < _KEPT:
                self.failures.append(f"{kind}: {why}")

    def total(self, outcome: Outcome) -> int:
        """The number of requests that ended so."""
        with self._lock:
            return sum(counts[outcome] for counts in self.counts.values())


@dataclass(frozen=True, slots=True)
class Goods:
    """The things to ask about: product ids of each partition, and photos; and the admin key."""

    products: Mapping[Partition, Sequence[str]]
    photos: Sequence[bytes]
    key: str

    def request(self, dice: random.Random) -> Request:
        """A good request of any kind."""
        partition = dice.choice([*self.products])
        known, base, photo = self.products[partition], f"/v1/{partition}", dice.choice(self.photos)
        product = quote(dice.choice(known), safe="")
        similar, own = f"{base}/products/{product}/similar", f"{base}/products/soak-{dice.randrange(20)}"
        sent = base64.b64encode(photo).decode()
        match dice.choice(["product", "product", "product", "filter", "list", "photo", "batch", "live", "page"]):
            case "product":
                return Request("product", f"{similar}?k={dice.choice([1, 10, 100])}")
            case "filter":
                asked = quote(dice.choice(["price:..80", "price:20..;brand:none,x", 'name:"",x']))
                return Request("filter", f"{similar}?filter={asked}&diversity=0.3&explain=true")
            case "list":
                path = dice.choice(["products?text=a", "attributes", f"products/{product}"])
                return Request("list", f"{base}/{path}")
            case "photo":
                things = f"{base}/search?k=10&objects={dice.randint(1, 2)}"
                return Request("photo", things, dice.choice([photo, _json(image_base64=sent)]), "POST")
            case "batch":
                like = [{"product_id": each} for each in dice.choices(known, k=2)]
                questions = [*like, {"image_base64": sent}, {"like": like, "collapse": "variant"}]
                return Request("batch", f"{base}/batch", _json(questions=questions), "POST")
            case "page":
                return Request("page", dice.choice(_PAGES))
        return self._live(dice, base, own, sent)

    def _live(self, dice: random.Random, base: str, own: str, sent: str) -> Request:
        one, other = dice.sample(self.products[Partition(*base.split("/")[2:])], 2)
        match dice.choice(["put", "delete", "stock", "pins"]):
            case "put":
                return Request("live change", own, _json(images=[{"image_id": "a", "image_base64": sent}]), "PUT")
            case "delete":
                return Request("live change", own, None, "DELETE", frozenset({200, 404}))
            case "stock":
                return Request("live change", f"{base}/availability", _json(unavailable=[one, other]), "PUT")
        pins = f"{base}/products/{quote(one, safe='')}/pins"
        return Request("live change", pins, _json(pinned=[other]), "PUT")

    def by_address(self, dice: random.Random) -> Request:
        """A live change whose image lies on a server that may stall or fail."""
        path = f"/v1/{dice.choice([*self.products])}/products/soak-{dice.randrange(20)}"
        body = _json(images=[{"image_id": str(dice.randrange(100))}])
        return Request("image by address", path, body, "PUT", frozenset({200, 422}))

    def bad(self, dice: random.Random) -> Request:
        """A request that must be refused."""
        partition, photo = dice.choice([*self.products]), bytearray(dice.choice(self.photos))
        search = f"/v1/{partition}/search"
        match dice.randrange(5):
            case 0:
                del photo[dice.randrange(3, 200) :]
                return Request("bad", search, bytes(photo), "POST", _REFUSED)
            case 1:
                return Request("bad", search, dice.randbytes(dice.randrange(1, 100_000)), "POST", _REFUSED)
            case 2:
                return Request("bad", f"/v1/{partition}/batch", b"[" * 50_000, "POST", _REFUSED)
            case 3:
                return Request("bad", f"/v1/{partition}/products/none/similar", right=_REFUSED)
        return Request("bad", search, _json(image_url="http://127.0.0.1/x.jpg"), "POST", _REFUSED)


def ask_until(stop: Event, port: int, made: Callable[[], Request], key: str, tally: Tally, pause: float = 0.0) -> None:
    """Ask by a connection that is kept open, then by another one, for a worker that starts gets only new ones; and
    count the outcomes. Who is told to come again does, some times."""
    connection, opened = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE), 0.0
    request, tries, asked = made(), 1, 0
    with closing(connection):
        while not stop.wait(pause):
            if (asked := asked + 1) % _ANEW == 0:
                connection.close()
            start = time.monotonic()
            opened = start if connection.sock is None else opened
            try:
                status, body, wait = _ask(connection, request, key)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                outcome = Outcome.CUT if tally.killed > opened - _NOW else Outcome.FAILED
                why, wait = f"{type(error).__name__}: {error}", 0
            else:
                outcome, why = _judged(request, status, body), f"{status} {body[:300]!r}"
                if wait and status == 503 and tries < _TRIES:
                    outcome = Outcome.AGAIN
            tally.add(request.kind, outcome, time.monotonic() - start, f"{request.method} {request.path}: {why}")
            if outcome is Outcome.AGAIN:
                tries += 1
                stop.wait(wait)
            else:
                request, tries = made(), 1


def _ask(connection: http.client.HTTPConnection, request: Request, key: str) -> tuple[int, bytes, int]:
    """The status and body of an answer, and the seconds after which to come again."""
    sort = "application/json" if (request.body or b"").startswith(b"{") else "application/octet-stream"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": sort}
    connection.request(request.method, request.path, request.body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), int(answer.headers.get("Retry-After", 0))


def _judged(request: Request, status: int, body: bytes) -> Outcome:
    empty = request.kind in ("product", "photo") and b'"rank":1,' not in body
    return Outcome.FAILED if status not in request.right or empty else Outcome.RIGHT


_MALFORMED = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\0" * 100 + b"\r\n\r\n",
    b"GET /" + b"x" * 10_000,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000,
    b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/a/b/search HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    b"POST /v1/a/b/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
)


def send_malformed(stop: Event, port: int, dice: random.Random, tally: Tally) -> None:
    """Send what is no request, which must be answered with a status of 400 to 499, 501 or 505, or with a goodbye."""
    while not stop.wait(0.5):
        answer = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
            with suppress(OSError):  # it may be refused before all is sent
                client.sendall(dice.choice(_MALFORMED))
            answer = client.recv(100)
        wrong = answer and answer[9:10] != b"4" and answer[9:12] not in (b"501", b"505")
        tally.add("malformed", Outcome.FAILED if wrong else Outcome.RIGHT, why=repr(answer))


def be_slow(stop: Event, port: int, count: int) -> None:
    """Keep so many connections that send a byte now and then, or do not read, open."""
    slow: list[socket.socket] = []
    begin = (b"GET /healthz HTTP/1.1\r\nX: ", b"POST /v1/a/b/search HTTP/1.1\r\nContent-Length: 5000\r\n\r\n", b"")
    while not stop.wait(1):
        for client in [*slow]:
            try:
                client.sendall(b"x")
            except OSError:
                slow.remove(client)
                client.close()
        with suppress(OSError):
            while len(slow) < count:
                slow.append(socket.create_connection(("127.0.0.1", port), timeout=1))
                slow[-1].sendall(begin[len(slow) % len(begin)])
    for client in slow:
        client.close()


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
