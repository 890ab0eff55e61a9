"""URLs that clients send, and what hosts answer: an image's bytes, or a refusal with a sentence."""

import http.server
from ipaddress import ip_address

from hypothesis import strategies as st

from server.fetching.fetcher import Fetcher, Policy
from shared.errors import BadPicture
from tests.support.fuzzing import damaged, fuzz, is_refused
from tests.support.image_server import ImageServer

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"Location: http://[\r\n",
    b"Location: //\xe2\x84\x80/\r\n",
    b"Location: http://a:99999/\r\n",
    b"HTTP/9.9 ",
    b"Content-Length: -1\r\n",
    b"Content-Encoding: gzip\r\n",
    b"X: " + b"x" * 70_000,
    b"f" * 20,
]
PARTS = st.sampled_from(
    ["http://", "https://", "file:///", "a", "/", "[", "]", "@", ":", "99999", "?", "#", "é", "\n", "%00", "ⅷ", ".."]
)


def test_an_answer_is_an_image_or_refused(cdn: ImageServer) -> None:
    fetcher = Fetcher(Policy(seconds=5, silence=2))

    def holds(raw: bytes) -> None:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.close_connection = True
            handler.wfile.write(raw)

        cdn.answers["/first"] = answer
        is_refused(lambda: fetcher.fetch(f"{cdn.url}/first"), BadPicture)

    fuzz(damaged(st.sampled_from(ANSWERS), TOKENS), holds)


def test_a_url_is_asked_or_refused() -> None:
    def nowhere(host: str) -> list[object]:
        ip_address(host)  # raises what names that are none raise
        return []

    fetcher = Fetcher(Policy(addresses=nowhere, seconds=5))  # type: ignore[arg-type]
    urls = st.lists(PARTS | st.text(max_size=3), max_size=6).map("".join)
    fuzz(urls | urls.map("http://".__add__), lambda url: is_refused(lambda: fetcher.fetch(url), BadPicture), 200)
