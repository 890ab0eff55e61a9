"""Servers and workers that end under load: no connection that was made is reset, and what a killed worker had is all
that is lost."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.support.answers import ask
from tests.support.pictures import vectors
from tests.support.processes import master, workers
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of

SIMILAR = "/v1/371/0341/products/p1/similar?k=1"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, ["p1", "p2"], vectors(1, 2))
    return tmp_path


def connection_to(base: str, timeout: float = 20) -> HTTPConnection:
    return HTTPConnection(base.removeprefix("http://"), timeout=timeout)


def asking(client: HTTPConnection, stays: bool, outcomes: "Counter[str]", ended: threading.Event) -> None:
    """Ask in a loop, on one connection or on a new one each time, until nobody listens any more."""
    while not ended.is_set():
        try:
            if not (stays and client.sock):
                client.close()
                client.connect()
        except ConnectionRefusedError:
            outcomes["refused"] += 1
            return
        outcomes[outcome(client)] += 1
    client.close()


def outcome(client: HTTPConnection) -> str:
    """Ask; the status of the answer, or why there is none."""
    try:
        client.request("GET", SIMILAR)
        with client.getresponse() as answer:
            answer.read()
            return str(answer.status)
    except (OSError, HTTPException) as error:
        client.close()
        return type(error).__name__


@contextmanager
def load(base: str) -> Iterator["Counter[str]"]:
    """Sixteen clients, half of which connect anew for each request. Yields their outcomes once some have come."""
    outcomes, ended = Counter[str](), threading.Event()
    clients = [
        threading.Thread(target=asking, args=(connection_to(base), stays, outcomes, ended))
        for stays in (True, False)
        for _ in range(8)
    ]
    try:
        for client in clients:
            client.start()
        until(lambda: outcomes["200"] > 200)
        yield outcomes
    finally:
        ended.set()
        for client in clients:
            client.join()


@pytest.mark.fault("B13")
@pytest.mark.slow
def test_a_server_that_stops_under_load_resets_no_connection(data: Path) -> None:
    with serving(data, 2) as base, load(base) as outcomes:
        os.kill(master(base), signal.SIGTERM)
        until(lambda: outcomes["refused"] == 16)
        assert outcomes.keys() == {"200", "refused"}, outcomes


@pytest.mark.slow
def test_nobody_begins_to_connect_to_a_server_that_stops_and_who_has_is_answered(data: Path) -> None:
    """Its workers stand still, so that what happens in between is seen."""
    with serving(data, 2) as base, ExitStack() as open_, ExitStack() as stopped:
        stopping, still = master(base), workers(base)
        for worker in still:
            os.kill(worker, signal.SIGSTOP)
            stopped.callback(os.kill, worker, signal.SIGCONT)
        os.kill(stopping, signal.SIGTERM)
        clients = list[HTTPConnection]()

        def ignored() -> bool:
            clients.append(connection_to(base, timeout=0.5))
            open_.callback(clients[-1].close)
            try:
                clients[-1].connect()
            except TimeoutError:
                return True
            return False

        until(ignored, seconds=5)
        stopped.close()
        for client in clients[:-1]:
            client.sock.settimeout(20)
            assert outcome(client) == "200"


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_own_requests_only_and_is_replaced(data: Path) -> None:
    with serving(data, 2) as base, load(base) as outcomes:
        before = workers(base)
        os.kill(before[0], signal.SIGKILL)
        answered = outcomes["200"]
        until(lambda: outcomes["200"] > answered + 200)
        until(lambda: before[0] not in workers(base) and ask(f"{base}/readyz")[0] == 200)  # when all workers serve
        lost = outcomes.total() - outcomes["200"]
        assert outcomes["refused"] == 0
        assert lost <= 16, outcomes  # each client had one request under way
