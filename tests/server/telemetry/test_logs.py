"""Logs: one form for all processes, the request's id everywhere, and nothing that should be nobody's."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from server.api import search
from server.app import create_app
from server.serving.snapshots import Snapshots
from server.telemetry.logs import request_id, set_up_logs
from tests.support.answers import ask
from tests.support.api_keys import command
from tests.support.pictures import drawn, vectors
from tests.support.server import serving
from tests.support.snapshots import snapshot_of

SIMILAR, SEARCH = "/v1/371/0341/products/p1/similar", "/v1/371/0341/search"
RULE = "/v1/<department>/<domain>/products/<id:product_id>/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(20)], vectors(*range(20)))
    return tmp_path


@pytest.mark.fault("O1")
@pytest.mark.slow
def test_every_line_of_every_process_is_json_and_a_request_has_one(data: Path, tmp_path: Path) -> None:
    key = command(tmp_path / "keys.json", "add", "shop")
    told = {"SIMILARITY_KEYS": str(tmp_path / "keys.json"), "SIMILARITY_ADMIN_KEY": "very-secret"}
    with serving(data, 2, SIMILARITY_LOG_FORMAT="json", **told) as base:
        sent = {"Authorization": f"Bearer {key}", "X-Request-ID": "mine"}
        assert ask(f"{base}{SIMILAR}?k=3&note=private", **sent)[0] == 200
        assert ask(f"{base}{SEARCH}?k=3", drawn(1), **sent)[0] == 200
        assert ask(f"{base}/v1/371/0341/products/%0Ax/similar", **sent)[0] == 404
        assert ask(f"{base}{SIMILAR}", Authorization="Bearer not-a-key")[0] == 401
    text = (data / "serve.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"timestamp", "level", "logger", "message", "request_id", "process"} <= line.keys() for line in lines)
    asked = [line for line in lines if line["request_id"] == "mine"]
    assert [(line["method"], line["route"], line["status"]) for line in asked] == [
        ("GET", RULE, 200),
        ("POST", "/v1/<department>/<domain>/search", 200),
        ("GET", RULE, 404),
    ]
    assert {line["key"] for line in asked} == {"shop"}
    assert all(0 < line["seconds"] < 60 for line in asked)
    assert sum(line.get("status") == 401 for line in lines) == 1
    assert {"gunicorn.error", "server.serving.served_partition", "server.inference.networks"} <= {
        line["logger"] for line in lines
    }
    assert len({line["process"] for line in lines}) == 3
    for secret in (key, "not-a-key", "very-secret", "private", "k=3"):
        assert secret not in text


def test_people_see_what_failed_with_its_id_and_no_line_for_what_went_well(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restored: None
) -> None:
    set_up_logs("text")
    client = create_app(Snapshots(data)).test_client()
    sent: dict[str, Any] = {"headers": {"X-Request-ID": "mine"}}
    assert client.get(SIMILAR, **sent).status_code == 200
    assert "[mine]" not in capsys.readouterr().err
    monkeypatch.setattr(search, "similar_to_product", lambda *_: 1 / 0)
    assert client.get(SIMILAR, **sent).status_code == 500
    log = capsys.readouterr().err
    assert f"ERROR server.app [mine]: GET {SIMILAR} failed" in log
    assert "ZeroDivisionError" in log


@pytest.fixture
def restored() -> Any:
    """The logging of the tests, again, after the test. No request of another test is under way."""
    request_id.set("-")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("server.middleware.request_log").setLevel(logging.NOTSET)
