"""The worker class on gunicorn's own: what it overrides is still there and still called, and does what it is for."""

import inspect
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.gunicorn_worker import Worker
from tests.support.answers import ask
from tests.support.processes import master, workers
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of, unit

SIMILAR = "/v1/371/0341/products/p1/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, ["p1", "p2"], unit([1.0, 0], [0, 1.0]))
    return tmp_path


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(0, 0, [], None, 30, Config(), None)
    yield made
    made.tmp.close()


def test_gunicorn_has_what_is_overridden(worker: Worker) -> None:
    for method, parameters in (
        (ThreadWorker.init_process, ["self"]),
        (ThreadWorker.accept, ["self", "listener"]),
        (ThreadWorker.finish_request, ["self", "conn", "fs"]),
        (TConn.close, ["self", "graceful"]),
    ):
        assert list(inspect.signature(method).parameters) == parameters, method
    assert worker.nr_conns == 0


def test_the_more_connections_a_worker_has_the_later_it_accepts(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, accepted = list[float](), list[Any]()
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(ThreadWorker, "accept", lambda self, listener: accepted.append(listener))
    for worker.nr_conns in (0, 1, 3, 5, 1000):
        worker.accept("listener")
    assert slept == pytest.approx([0, 0.0001, 0.0003, 0.0005, 0.0005])
    assert accepted == ["listener"] * 5


def test_a_goodbye_does_not_hold_the_accepting_thread(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, closed = threading.Event(), list[bool]()
    monkeypatch.setattr(ThreadWorker, "init_process", lambda self: None)
    worker.init_process()
    worker.nr_conns = 1

    def close(graceful: bool) -> None:
        assert gone.wait(10)
        closed.append(graceful)

    ended: Future[bool] = Future()
    ended.set_result(False)
    worker.finish_request(SimpleNamespace(close=close), ended)
    assert (worker.nr_conns, closed) == (0, [])
    gone.set()
    until(lambda: closed == [True])


@pytest.mark.slow
def test_clients_that_stay_after_their_answer_delay_nobody(data: Path) -> None:
    with serving(data) as base:
        port = int(base.rpartition(":")[2])
        staying = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        for one in staying:
            one.sendall(f"GET {SIMILAR} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert one.recv(12) == b"HTTP/1.1 200"
        start = time.monotonic()
        assert ask(base + SIMILAR)[0] == 200
        assert time.monotonic() - start < 4  # each would cost 2 seconds
        for one in staying:
            one.close()


@pytest.mark.slow
def test_a_hangup_rings_and_restarts_no_worker(data: Path) -> None:
    with serving(data, 2) as base:
        server = master(base)
        before, signal_file = workers(base), data / ".reload"
        assert not signal_file.exists()
        os.kill(server, signal.SIGHUP)
        until(signal_file.exists)
        time.sleep(0.5)
        assert workers(base) == before
        assert ask(base + SIMILAR)[0] == 200
