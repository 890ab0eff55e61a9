"""API keys: keys, roles, rotation, a file that changes under a running server, and everything that is not a key."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.middleware.api_keys import Keys, read_keys
from server.middleware.auth import Auth
from server.middleware.routes import Routes, require
from server.serving.snapshots import Snapshots
from shared.errors import ConfigError
from tests.support.answers import ask, problem
from tests.support.api_keys import bearing, command
from tests.support.project import ROOT
from tests.support.server import serving
from tests.support.snapshots import snapshot_of, unit

SIMILAR = "/v1/371/0341/products/p1/similar"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(20)], unit(*[[1.0, n, 1] for n in range(20)]))
    return tmp_path


@pytest.fixture
def client(data: Path, file: Path) -> Callable[[], FlaskClient]:
    return lambda: create_app(Snapshots(data), ServerConfig(data, keys=file)).test_client()


def test_a_key_is_shown_once_and_its_file_has_only_its_hash(file: Path) -> None:
    before = os.umask(0)
    key = command(file, "add", "shop")
    os.umask(before)
    assert len(key) >= 43
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in command(file, "list")
    assert command(file, "list").split()[1:3] == ["read", "shop"]


def test_every_question_asks_for_a_key_and_what_probes_and_people_need_does_not(
    file: Path, client: Callable[[], FlaskClient]
) -> None:
    reader, admin = command(file, "add", "shop"), command(file, "add", "ops", "--role", "admin")
    asked = client()
    for open_route in ("/healthz", "/readyz", "/nothing"):
        assert asked.get(open_route).status_code != 401
    for route in ("/v1/indexes", SIMILAR, "/v1/nothing", "/v1/371/0341/products/nope/similar"):
        answer = asked.get(route)
        assert "Bearer" in problem(answer, 401)["detail"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    for key in (reader, admin):
        assert asked.get(SIMILAR, **bearing(key)).status_code == 200
    problem(asked.post("/admin/reload"), 401)
    problem(asked.post("/admin/reload", **bearing(reader)), 403)
    assert asked.post("/admin/reload", **bearing(admin)).status_code == 202


@pytest.mark.fault("Q4")
@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Bearer é", "Bearer \xff\xfe",
     "Basic eDp5", "bearer" + " x" * 4000, "Bearer " + "x" * 100_000, "Bearer \x01", "KEY", "Bearer {}"],
)  # fmt: skip
def test_what_is_not_a_key_is_401(file: Path, client: Callable[[], FlaskClient], header: str) -> None:
    key = command(file, "add", "shop")
    asked = client()
    for wrong in (header, header.replace("x", key[:-1]), header.replace("x", key + "x")):
        problem(asked.get(SIMILAR, headers={"Authorization": wrong}), 401)
    assert asked.get(SIMILAR, headers={"Authorization": f"bearer  {key} "}).status_code == 200


def test_keys_of_one_name_rotate_and_expire(file: Path, client: Callable[[], FlaskClient]) -> None:
    old, new = command(file, "add", "shop"), command(file, "add", "shop", "--days", "1")
    asked = client()
    assert [asked.get(SIMILAR, **bearing(key)).status_code for key in (old, new)] == [200, 200]
    command(file, "remove", read_keys(file)[0].id)
    assert [asked.get(SIMILAR, **bearing(key)).status_code for key in (old, new)] == [401, 200]
    fields = json.loads(file.read_text())
    fields["keys"][0]["expires"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    file.write_text(json.dumps(fields))
    assert asked.get(SIMILAR, **bearing(new)).status_code == 401
    assert "expired" in command(file, "list")
    command(file, "remove", "shop")
    assert read_keys(file) == []


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"[]", b'{"keys": 5}', b'{"keys": [{}]}', b'{"keys": [{"name": "a", "role": "god", "sha256": "x"}]}',
     b'{"keys": [{"name": "a", "role": "read", "sha256": "%s", "expires": "soon"}]}' % (b"a" * 64), b"\xff",
     b"[" * 5000, None],
)  # fmt: skip
def test_a_broken_file_keeps_the_former_keys(
    file: Path, client: Callable[[], FlaskClient], broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    key, asked = command(file, "add", "shop"), client()
    assert asked.get(SIMILAR, **bearing(key)).status_code == 200
    file.write_bytes(broken) if broken is not None else file.unlink()
    for _ in range(3):
        assert asked.get(SIMILAR, **bearing(key)).status_code == 200
    assert caplog.text.count("keys read before stay valid") == 1
    with pytest.raises(ConfigError):
        read_keys(file)
    problem(client().get(SIMILAR, **bearing(key)), 401)  # whoever starts now has no former keys


@pytest.mark.slow
def test_wrong_commands_say_so(file: Path) -> None:
    for words in (["add", "a b"], ["add", ""], ["remove", "nobody"], ["list"]):
        with pytest.raises(ConfigError):
            command(file, *words)
    words = ["-m", "server", "keys", "add", "shop", "--data", str(file.parent), "--keys", str(file / "no" / "folder")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_the_gate_is_before_the_view_and_leaves_its_signature_alone() -> None:
    app, asked = Flask("x"), list[int]()

    @app.put("/v1/<int:number>")
    @require("admin")
    def change(number: int) -> str:
        asked.append(number)
        return "done"

    app.wsgi_app = Auth(app.wsgi_app, Keys(None, "secret"), Routes(app.url_map, app.view_functions).role_of)  # type: ignore[method-assign]
    assert app.test_client().put("/v1/5").status_code == 401
    assert asked == []
    assert app.test_client().put("/v1/5", **bearing("secret")).text == "done"
    assert change.__annotations__ == {"number": int, "return": str}


def test_no_route_is_open_by_accident(data: Path) -> None:
    app = create_app(Snapshots(data))
    for rule in app.url_map.iter_rules():
        role = getattr(app.view_functions[rule.endpoint], "role", None)
        if (rule.methods or set()) & {"PUT", "PATCH", "DELETE"}:
            assert role == "admin", rule
        if role is None and not rule.rule.startswith("/v1/"):
            assert rule.rule in ("/", "/healthz", "/readyz", "/openapi.json") or rule.rule.startswith(
                ("/docs", "/web/")
            )


@pytest.mark.slow
def test_every_process_of_a_server_sees_keys_come_and_go(data: Path, file: Path) -> None:
    command(file, "add", "first")
    with serving(data, 2, SIMILARITY_KEYS=str(file)) as base:
        key = command(file, "add", "shop")

        def statuses() -> set[int]:
            return {ask(base + SIMILAR, Authorization=f"Bearer {key}")[0] for _ in range(20)}

        assert statuses() == {200}
        command(file, "remove", "shop")
        assert statuses() == {401}
        assert ask(base + SIMILAR, Authorization=f"Bearer {'x' * 7000}")[0] == 401
        assert ask(base + SIMILAR, Authorization="Bearer \xe9\xff")[0] == 401
    assert key not in (data / "serve.log").read_text()
