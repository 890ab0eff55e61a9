"""The worker class on gunicorn's own: what it overrides is still there and still called, and does what it is for."""

import contextlib
import inspect
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.config import ServerConfig
from server.gunicorn_worker import ClientSocket, Worker
from tests.support.answers import ask
from tests.support.pictures import drawn, vectors
from tests.support.processes import master, workers
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of

SIMILAR = "/v1/371/0341/products/p1/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, ["p1", "p2"], vectors(1, 2))
    return tmp_path


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(0, 0, [], None, 30, Config(), None)
    yield made
    made.tmp.close()


def test_gunicorn_has_what_is_overridden_and_used(worker: Worker) -> None:
    for method, parameters in (
        (ThreadWorker.set_accept_enabled, ["self", "enabled"]),
        (ThreadWorker.accept, ["self", "listener"]),
        (ThreadWorker.enqueue_req, ["self", "conn"]),
        (ThreadWorker.finish_request, ["self", "conn", "fs"]),
        (ThreadWorker.murder_keepalived, ["self", "force"]),
        (ThreadWorker._cap_keepalive, ["self", "deadline"]),
        (TConn.__init__, ["self", "cfg", "sock", "client", "server"]),
        (TConn.close, ["self", "graceful"]),
        (Unreader.take_buffered, ["self"]),
    ):
        assert list(inspect.signature(method).parameters) == parameters, method
    assert worker.nr_conns == 0


def test_the_more_connections_a_worker_has_the_later_it_accepts(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for worker.nr_conns in (0, 1, 3, 5, 40):
            worker.accept(listener)
    assert slept == pytest.approx([0, 0.0001, 0.0003, 0.0005, 0.0005])


@pytest.mark.fault("B3")
def test_an_answer_that_is_not_read_is_kept_and_sent_later() -> None:
    ours, theirs = socket.socketpair()
    sender, answer = ClientSocket.of(ours), bytes(range(256)) * 4096
    with theirs, sender:
        start = time.monotonic()
        sender.sendall(answer[: 1 << 19])
        sender.sendall(answer[1 << 19 :])
        assert time.monotonic() - start < 1
        assert sender.unsent
        received = bytearray()
        while len(received) < len(answer):
            received += theirs.recv(1 << 16)
            sender.flush()
        assert received == answer
        assert not sender.unsent


def test_a_worker_calculates_without_threads_of_openblas(tmp_path: Path) -> None:
    """Workers that started while the processors were busy waited for them for ever."""
    code = (
        "import os, numpy; numpy.ones((900, 900)) @ numpy.ones((900, 900)); print(len(os.listdir('/proc/self/task')))"
    )
    environment = dict(ServerConfig(tmp_path).environment())
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_body_in_many_chunks_takes_little_time() -> None:
    """gunicorn's parser copies all that it has received, for each chunk: 20 seconds for these, if that is all of it."""
    ours, theirs = socket.socketpair()
    with theirs, ClientSocket.of(ours) as client:
        client.received += b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.received += b"400\r\n%b\r\n" % bytes(1024) * 4000 + b"0\r\n\r\n"
        start = time.process_time()
        assert len(next(http.get_parser(Config(), client, ("127.0.0.1", 1))).body.read()) == 4_096_000
        assert time.process_time() - start < 5


SLOW = {
    "silent": b"",
    "drips its head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
    "drips its body": b"POST /v1/371/0341/search HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\nx",
    "does not read": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
}


@pytest.mark.fault("R6")
@pytest.mark.fault("B3")
@pytest.mark.slow
@pytest.mark.parametrize("sort", SLOW)
def test_sixty_slow_clients_take_no_thread_from_others(sort: str, data: Path) -> None:
    with serving(data) as base:
        address = ("127.0.0.1", int(base.rpartition(":")[2]))
        with contextlib.ExitStack() as open_:
            slow = [open_.enter_context(socket.create_connection(address)) for _ in range(60)]
            for client in slow:
                client.sendall(SLOW[sort])
            until(lambda: ask(f"{base}/healthz")[0] == 200)  # with all of them there
            start = time.monotonic()
            assert {ask(base + SIMILAR)[0] for _ in range(5)} == {200}
            assert time.monotonic() - start < 4  # each of the 24 threads would wait 5 seconds or more
            assert ask(f"{base}/healthz")[0] == 200


@pytest.mark.fault("B3")
@pytest.mark.slow
def test_more_connections_than_files_end_no_worker(data: Path) -> None:
    few = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, few[1]))  # the server inherits it
    try:
        with serving(data) as base:
            (worker,) = workers(base)
            resource.setrlimit(resource.RLIMIT_NOFILE, few)
            address = ("127.0.0.1", int(base.rpartition(":")[2]))
            with contextlib.ExitStack() as open_:
                for _ in range(400):
                    open_.enter_context(socket.create_connection(address))
                assert ask(base + SIMILAR)[0] == 200
            assert workers(base) == [worker]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, few)


@pytest.mark.slow
def test_requests_on_their_way_are_answered_however_they_come(data: Path) -> None:
    head = f"GET {SIMILAR} HTTP/1.1\r\nHost: x\r\n".encode()
    with serving(data) as base:
        address = ("127.0.0.1", int(base.rpartition(":")[2]))
        with socket.create_connection(address, timeout=10) as client:  # in pieces
            for piece in (b"\r\n" + head[:10], head[10:], b"\r", b"\n"):
                client.sendall(piece)
                time.sleep(0.05)
            assert client.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(address, timeout=10) as client:  # three at once, the last to be closed
            client.sendall((head + b"\r\n") * 2 + head + b"Connection: close\r\n\r\n")
            answers = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert answers.count(b"HTTP/1.1 200") == 3
        photo = drawn(1, (64, 64))
        search = b"POST /v1/371/0341/search?k=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        with socket.create_connection(address, timeout=10) as client:  # in chunks, and only when told to go on
            client.sendall(search + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
            assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(photo), photo))
            until(lambda: b"HTTP/1.1 200" in client.recv(1 << 16))
        with socket.create_connection(address, timeout=10) as client:  # too large, and never sent
            client.sendall(search + b"Content-Length: 99999999\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.fault("R7")
@pytest.mark.slow
def test_a_server_that_stops_answers_what_was_sent(data: Path) -> None:
    with serving(data) as base:
        address = ("127.0.0.1", int(base.rpartition(":")[2]))
        waiting = [socket.create_connection(address, timeout=10) for _ in range(20)]
        for client in waiting:
            client.sendall(f"GET {SIMILAR} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        os.kill(master(base), signal.SIGTERM)
        for client in waiting:
            with client:
                assert client.recv(12) == b"HTTP/1.1 200"


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
