"""Rate limits: one count for all workers, what is told of it, and what is not counted."""

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.middleware import rate_limits
from server.middleware.rate_limits import Counts, Proxies, parse_rate
from server.serving.snapshots import Snapshots
from shared.errors import ConfigError
from tests.support.answers import ask, problem
from tests.support.api_keys import bearing, command
from tests.support.processes import workers
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of, unit

SIMILAR = "/v1/371/0341/products/p1/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(20)], unit(*[[1.0, n, 1] for n in range(20)]))
    return tmp_path


def limited(data: Path, rate: str, keys: Path | None = None) -> FlaskClient:
    return create_app(Snapshots(data), ServerConfig(data, rate=rate, keys=keys)).test_client()


@pytest.mark.fault("R5")
def test_one_more_than_the_rate_is_429_and_told_when_to_come_again(data: Path) -> None:
    client = limited(data, "3")
    left = [client.get(SIMILAR).headers["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    for _ in range(2):
        answer = client.get(SIMILAR)
        assert "3 per 1 minute" in problem(answer, 429)["detail"]
        assert 55 <= int(answer.headers["Retry-After"]) <= 60
        assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("3", "0")
    assert client.get("/healthz").status_code == 200
    assert client.get(SIMILAR, environ_base={"REMOTE_ADDR": "127.0.0.9"}).status_code == 200


def test_a_window_ends(data: Path) -> None:
    client = limited(data, "2/second")
    assert [client.get(SIMILAR).status_code for _ in range(3)] == [200, 200, 429]
    until(lambda: client.get(SIMILAR).status_code == 200)


def test_each_key_has_its_own_count_and_strangers_none(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    one, other = command(file, "add", "one"), command(file, "add", "other")
    client = limited(data, "2", file)
    for _ in range(5):
        problem(client.get(SIMILAR), 401)
    assert [client.get(SIMILAR, **bearing(one)).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get(SIMILAR, **bearing(other)).status_code == 200


def test_only_proxies_are_believed_which_address_asks(data: Path) -> None:
    config = ServerConfig(data, rate="1", proxy="127.0.0.1, 10.0.0.0/8")
    client = create_app(Snapshots(data), config).test_client()

    def asks(peer: str, told: str) -> int:
        asked = client.get(SIMILAR, environ_base={"REMOTE_ADDR": peer}, headers={"X-Forwarded-For": told})
        return asked.status_code

    assert [asks("127.0.0.1", told) for told in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [200, 200, 429]
    assert asks("10.1.2.3", "192.0.2.9, 192.0.2.1") == 429  # what stands before is the client's own word
    assert [asks("127.0.0.1", told) for told in ("", "nobody")] == [200, 429]  # its own address counts
    assert [asks("192.0.2.7", told) for told in ("192.0.2.8", "192.0.2.9")] == [200, 429]


def test_a_wrong_proxy_is_said() -> None:
    with pytest.raises(ConfigError, match=r"PROXY is '10.0.0.1/8'.*must be such as"):
        Proxies("10.0.0.1/8")


@pytest.mark.parametrize("rate", ["", "x", "0x5", "-1", "5/fortnight", "٣"])
def test_a_wrong_rate_is_said(rate: str) -> None:
    with pytest.raises(ConfigError, match="RATE"):
        parse_rate(rate)


def test_counts_of_many_threads_and_connections_add_up_and_are_forgotten(tmp_path: Path) -> None:
    several = [Counts(tmp_path / "counts") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: several[number % 4].hit("who", 60), range(400)))
    assert several[0].hit("who", 60).count == 401
    assert several[1].hit("brief", 0).count == 1
    assert several[2].hit("next", 60).count == 1
    with closing(sqlite3.connect(tmp_path / "counts")) as database:
        assert database.execute("SELECT key FROM counts ORDER BY key").fetchall() == [("next",), ("who",)]


def test_a_disk_that_is_full_stops_nobody(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = limited(data, "1")
    monkeypatch.setattr(rate_limits, "_COUNT", "INSERT INTO nowhere VALUES (:key)")
    assert [client.get(SIMILAR).status_code for _ in range(3)] == [200] * 3
    assert "no limit holds" in caplog.text


@pytest.mark.slow
def test_all_workers_count_together(data: Path) -> None:
    found: list[int] = []
    with serving(data, 3, SIMILARITY_RATE="50/hour") as base:
        pids = workers(base)
        assert len(pids) == 3
        for awake in pids:
            others = [pid for pid in pids if pid != awake]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            found += [ask(base + SIMILAR)[0] for _ in range(20)]
            for pid in others:
                os.kill(pid, signal.SIGCONT)
    assert found == [200] * 50 + [429] * 10
