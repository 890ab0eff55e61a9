"""Spans of requests: by route, with the request's id, without queries and keys; sent by every worker, where wanted."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server import app as app_module
from server.app import create_app
from server.config import ServerConfig
from server.serving.snapshots import Snapshots
from server.telemetry.tracing import trace
from shared.errors import ConfigError
from tests.support.answers import ask
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of, unit

SIMILAR = "/v1/371/0341/products/p1/similar"
RULE = "/v1/<department>/<domain>/products/<id:product_id>/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pytest.importorskip("opentelemetry.instrumentation.flask")
    snapshot_of(tmp_path, [f"p{n}" for n in range(20)], unit(*[[1.0, n, 1] for n in range(20)]))
    return tmp_path


def test_a_request_is_a_span(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(app_module, "trace", lambda app: trace(app, SimpleSpanProcessor(spans)))
    client = create_app(Snapshots(data), ServerConfig(data, admin_key="secret")).test_client()
    sent = {"X-Request-ID": "mine", "Authorization": "Bearer secret"}
    for path in (SIMILAR, SIMILAR + "?k=0&note=private", "/nothing", "/healthz"):
        client.get(path, headers=sent)
    client.post("/admin/reload")
    found = spans.get_finished_spans()
    assert [span.name for span in found] == [f"GET {RULE}", f"GET {RULE}", "GET /nothing", "POST /admin/reload"]
    assert [span.attributes["http.status_code"] for span in found if span.attributes] == [200, 400, 404, 401]
    assert all(span.attributes and span.attributes["request_id"] == "mine" for span in found[:3])
    assert not any(word in span.to_json() for span in found for word in ("private", "secret"))


def test_without_the_extra_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation.flask", None)
    with pytest.raises(ConfigError, match="otel"):
        trace(create_app(Snapshots(Path("nowhere"))))


class Collector(BaseHTTPRequestHandler):
    """Takes what a worker sends."""

    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    Collector.got = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Collector.got
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_server_sends_its_spans(data: Path, collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    address, got = collector
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "100", "NO_PROXY": "*"}
    with serving(data, 1, **told) as base:
        assert ask(base + SIMILAR)[0] == 200
        until(lambda: any(RULE.encode() in body for _, body in got))
    assert {path for path, _ in got} == {"/v1/traces"}
    assert all(b"image-similarity" in body for _, body in got)
