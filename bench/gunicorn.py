"""Our server, and the route of fixed bytes that it is compared with, both under the same gunicorn configuration."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.errors import RunStopped

_ROOT = Path(__file__).resolve().parent.parent
_CONFIG = _ROOT / "server" / "gunicorn.conf.py"
_PATIENCE = 120.0


class Client:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ask(self, path: str, photo: bytes | None = None) -> tuple[int, bytes]:
        """Status and body."""
        try:
            return self._asked(path, photo)
        except http.client.RemoteDisconnected:  # it was idle for longer than the server keeps connections
            self._connection.close()
            return self._asked(path, photo)

    def _asked(self, path: str, photo: bytes | None) -> tuple[int, bytes]:
        self._connection.request("POST" if photo else "GET", path, photo)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def products(self, path: str, photo: bytes | None = None) -> list[str]:
        """The product ids of an answer. Raises `RunStopped` where there is none."""
        status, body = self.ask(path, photo)
        if status != 200:
            raise RunStopped(f"The server answers {status} to {path}: {body[:200]!r}")
        return [result["product_id"] for result in json.loads(body)["results"]]


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn on loopback."""

    port: int
    pid: int
    seconds: float  # until its first answer

    def client(self) -> Client:
        """A new connection to it."""
        return Client(self.port)


@contextlib.contextmanager
def served(data: Path, workers: int, until: str = "/healthz") -> Iterator[Server]:
    """`python -m server` over a data folder, from when it answers 200 there."""
    command = ["-m", "server", "--data", str(data), "--workers", str(workers), "--port"]
    with _running(command, until, {}) as server:
        yield server


@contextlib.contextmanager
def served_bytes(body: bytes, workers: int) -> Iterator[Server]:
    """A Flask route that returns these bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        application = f"bench.fixed:application({file.name!r})"
        command = ["-m", "gunicorn", "--config", str(_CONFIG), "--workers", str(workers), application, "--bind"]
        environment = {"SIMILARITY_DATA": tempfile.gettempdir()}
        with _running(command, "/fixed", environment) as server:
            yield server


@contextlib.contextmanager
def _running(command: Sequence[str], until: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """A Python command whose last argument is the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    last = f"127.0.0.1:{port}" if command[-1] == "--bind" else str(port)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *command, last], cwd=_ROOT, env={**os.environ, **environment}, **quiet)
    try:
        while not _answers(port, until):
            if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
                raise RunStopped(f"The server did not answer {until}: python {' '.join(command)}")
            time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int, path: str) -> bool:
    try:
        with Client(port) as client:
            return client.ask(path)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
