"""Catalog images by their ids: from private hosts, folders and through proxies, never further than `IMAGE_URL` says."""

import http.server
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.fetching import catalog_images
from server.fetching.catalog_images import CatalogImages
from shared.errors import BadPicture
from tests.support.image_server import ImageServer, reply, stalled
from tests.support.pictures import drawn


def refusal(image_url: str, image_id: str = "1") -> tuple[str, str]:
    """The kind of the refusal, and its sentence."""
    with pytest.raises(BadPicture) as caught:
        CatalogImages(image_url).fetch("p", image_id, {})
    return str(caught.value.kind), str(caught.value)


def test_an_image_is_fetched_from_a_private_host_of_any_port_and_name(cdn: ImageServer) -> None:
    cdn.answers["/a%20b.jpg?f=512x512"] = drawn(1)
    for host in ("127.0.0.1", "localhost"):  # which may be ::1 first, where nobody listens
        image_url = f"http://{host}:{urlsplit(cdn.url).port}/{{id}}.jpg?f={{size}}x{{size}}"
        url, data = CatalogImages(image_url).fetch("p", "a b", {})
        assert (url, data) == (f"http://{host}:{urlsplit(cdn.url).port}/a%20b.jpg?f=512x512", drawn(1))


def test_an_image_is_read_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.jpg").write_bytes(drawn(1))
    (tmp_path / "2.jpg").mkdir()
    image_url = f"file://{tmp_path}/{{id}}.jpg"
    assert CatalogImages(image_url).fetch("p", "1", {}) == (f"file://{tmp_path}/1.jpg", drawn(1))
    assert refusal(image_url, "3")[0] == "gone"
    assert refusal(image_url, "2")[0] == "connection_failed"
    assert refusal(image_url, "../1")[0] == "bad_url"
    monkeypatch.setattr(catalog_images, "POLICY", replace(catalog_images.POLICY, size=100))
    assert refusal(image_url)[0] == "too_large"


def dribbled(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def test_a_refusal_names_the_image_its_url_and_the_reason(cdn: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_images, "POLICY", replace(catalog_images.POLICY, silence=0.3, seconds=1.0))
    cdn.answers |= {
        "/stalled": stalled,
        "/dribbled": dribbled,
        "/elsewhere": lambda handler: reply(handler, 302, b"", Location="/1"),
        "/broken": lambda handler: reply(handler, 500, b""),
    }
    for image_id, kind, why in (
        ("none", "gone", "answers 404"),
        ("broken", "http_error", "answers 500"),
        ("elsewhere", "refused_redirect", "redirects"),
        ("stalled", "timeout", "within 0.3 seconds"),
        ("dribbled", "timeout", "within 1 seconds"),
    ):
        found, sentence = refusal(cdn.url + "/{id}", image_id)
        assert found == kind, image_id
        assert why in sentence
        assert sentence.startswith(f"Image {image_id!r} at {cdn.url}/{image_id}: ")
    assert cdn.requests["/1"] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert refusal(f"http://127.0.0.1:{free.getsockname()[1]}/{{id}}")[0] == "connection_failed"


def test_the_environments_proxy_is_asked_as_the_indexer_asks_it(
    cdn: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | None] = []

    def picture(handler: http.server.BaseHTTPRequestHandler) -> None:
        heard.extend((handler.headers["Host"], handler.headers["Proxy-Authorization"]))
        reply(handler, 200, drawn(1))

    cdn.answers["http://cdn.example/1.jpg"] = picture
    monkeypatch.setenv("http_proxy", cdn.url.replace("//", "//user:pass@"))
    images = CatalogImages("http://cdn.example/{id}.jpg")
    assert images.fetch("p", "1", {}) == ("http://cdn.example/1.jpg", drawn(1))
    assert heard == ["cdn.example", "Basic dXNlcjpwYXNz"]


def test_https_is_tunnelled_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            asked, _ = proxy.accept()
            with asked:
                heard.append(asked.recv(4096))
                asked.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.getsockname()[1]}")
        assert refusal("https://cdn.example/{id}.jpg")[0] == "connection_failed"
        thread.join()
    assert heard[0].startswith(b"CONNECT cdn.example:443 ")
