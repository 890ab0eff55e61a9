"""A real gunicorn, its port, and waiting until something holds."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.project import ROOT


def until(holds: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def free_port() -> int:
    """A port below the ephemeral range that nobody listens on. SeaweedFS also takes the one 10,000 above.

    Nobody else is given either of them for a minute, not even by other tests that run on this machine.
    """
    while True:
        port = random.SystemRandom().randrange(12_000, 22_000)  # whatever seed a test sets
        with contextlib.suppress(OSError):
            for each in (port, port + 10_000):
                reserve(each)
            return port


def reserve(port: int) -> None:
    """Take a port, and leave it in TIME_WAIT. Who sets SO_REUSEADDR, as servers do, may listen on it; who binds it
    without that, as this does, may not. Raises `OSError` where somebody has it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen()
        client.connect(listener.getsockname())
        listener.accept()[0].close()  # who closes first waits


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until a URL answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} did not become ready")


@contextlib.contextmanager
def serving(data: Path, workers: int = 1, **options: str) -> Iterator[str]:
    """A real gunicorn over a data folder, `options` in its environment; yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "server", "--data", str(data), "--port", str(port), "--workers", str(workers)]
    with (data / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **options})
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
