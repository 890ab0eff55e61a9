"""Requests that are small and ask for much: filters, bodies, request lines, and clocks that jump."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from server.app import create_app
from server.config import ServerConfig
from server.middleware import api_keys
from server.middleware.api_keys import Keys
from server.middleware.rate_limits import Counts
from server.serving.snapshots import Snapshots
from shared.errors import BadQuestion
from shared.index.columns import Column
from shared.index.filters import Condition, parse
from tests.support.answers import problem
from tests.support.api_keys import command
from tests.support.project import ROOT
from tests.support.server import serving
from tests.support.snapshots import snapshot_of, unit


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(4)], unit(*[[1.0, n] for n in range(4)]))
    return tmp_path


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        ([";".join(["a:1"] * 17)], "17 conditions; the limit is 16"),
        (["a:1"] * 17, "17 conditions; the limit is 16"),
        (["a:" + ",".join(["x"] * 257)], "257 values; the limit is 256"),
        (["a:" + ",".join(["1..2"] * 9)], "9 ranges; the limit is 8"),
        (["a:" + "x" * 5000, "b:" + "x" * 5000], "10,004 characters; the limit is 8,000"),
    ],
)
def test_a_filter_of_too_many_parts_is_refused_with_its_limit(texts: list[str], limit: str) -> None:
    with pytest.raises(BadQuestion, match=limit):
        parse(texts)


def test_a_text_is_found_among_many_without_comparing_all() -> None:
    values = [f"V{n}" for n in range(2000)] + ["Straße", "STRASSE", "v7"]
    column = Column("a", values, np.arange(len(values), dtype=np.int32))
    for text, places in (("v7", [7, 2002]), ("strasse", [2000, 2001]), ("none", [])):
        assert np.flatnonzero(column.mask(Condition("a", (text,)))).tolist() == places


@pytest.mark.fault("B7")
def test_the_parts_of_a_body_are_counted_before_it_is_parsed(data: Path) -> None:
    client = create_app(Snapshots(data), ServerConfig(data)).test_client()
    many = b'{"questions":[' + b"{}," * 60_000 + b"{}]}"
    answer = client.post("/v1/371/0341/batch", data=many, content_type="application/json")
    assert "the limit is 100,000" in problem(answer, 400)["detail"]
    few = json.dumps({"questions": [{"product_id": "p1"}]})
    assert client.post("/v1/371/0341/batch", data=few, content_type="application/json").status_code == 200


@pytest.mark.fault("B6")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "status"),
    [(b"GET /healthz?", 414), (b"GET /healthz HTTP/1.1\r\nX: ", 431)],
    ids=["request line", "head"],
)
def test_a_long_request_line_or_head_is_refused_at_once(begin: bytes, status: int, data: Path) -> None:
    with serving(data) as base:
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            start = time.monotonic()
            with contextlib.suppress(OSError):  # it may be closed meanwhile
                client.sendall(begin + b"x" * 2_000_000)
            answer = client.recv(100)
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert time.monotonic() - start < 5


@pytest.mark.fault("B10")
def test_a_batch_counts_as_many_requests_as_it_has_questions_and_photos(data: Path) -> None:
    client = create_app(Snapshots(data), ServerConfig(data, rate="20")).test_client()
    questions = [{"product_id": "p1"}] * 5 + [{"like": [{"product_id": "p1"}] * 3, "unlike": [{"product_id": "p2"}]}]
    answer = client.post("/v1/371/0341/batch", json={"questions": questions})
    assert (answer.status_code, answer.headers["RateLimit-Remaining"]) == (200, "11")
    like = {"like": [{"product_id": "p1"}, {"product_id": "p2"}]}
    assert client.post("/v1/371/0341/similar", json=like).headers["RateLimit-Remaining"] == "9"
    assert client.get("/v1/371/0341/products/p1/similar").headers["RateLimit-Remaining"] == "8"


@pytest.mark.fault("B10")
@pytest.mark.fault("O2")
def test_a_clock_that_is_set_back_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, now = Counts(), time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert [counts.hit("a", 60).count for _ in range(3)] == [1, 2, 3]
    now -= 86_400
    window = counts.hit("a", 60)
    assert (window.count, window.ends) == (1, now + 60)
    assert counts.hit("a", 60).count == 2


@pytest.mark.fault("B5")
def test_a_file_of_keys_keeps_its_mode_and_owner(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    command(file, "add", "one")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12346)
    owner = (file.stat().st_uid, file.stat().st_gid)
    command(file, "add", "two")
    command(file, "remove", "one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (file.stat().st_uid, file.stat().st_gid) == owner


@pytest.mark.fault("B5")
def test_keys_that_cannot_be_read_any_more_close_the_server_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, now = tmp_path / "keys.json", time.monotonic()
    key = command(file, "add", "one").encode()
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now)
    keys, good = Keys(file), file.read_bytes()
    assert keys.holder(key)
    file.write_bytes(b"{")
    now += 50
    assert keys.holder(key)
    assert "stay valid for 60 seconds" in keys.problem
    now += 20
    assert keys.holder(key) is None
    assert "No key of it is valid." in keys.problem
    file.write_bytes(good)
    now += 2
    assert keys.holder(key)
    assert keys.problem == ""


@pytest.mark.fault("B5")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SIMILARITY_KEYS", "", "SIMILARITY_KEYS is set, but empty"),
        ("SIMILARITY_ADMIN_KEY", " ", "SIMILARITY_ADMIN_KEY is set, but empty"),
        ("SIMILARITY_SIGNING_KEY", "a", "shorter than 8 characters"),
    ],
)
def test_a_secret_that_protects_nothing_stops_the_start(name: str, value: str, said: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "server", "--data", str(tmp_path)]
    environment = {**os.environ, name: value}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
