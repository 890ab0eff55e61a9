"""Other processes: commands that listen on loopback while they are needed, and what memory a process takes."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import RunStopped

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Running:
    """A process that listens, and how many seconds it took until it was ready."""

    port: int
    pid: int
    seconds: float


@contextmanager
def running(
    command: Sequence[str], ready: Callable[[int], bool], told: Mapping[str, str] | None = None, **how: Any
) -> Iterator[Running]:
    """A command, the port put in for `{port}`, from when it is ready. Raises `RunStopped` where it never is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in command]
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(told or {})}, **how)
        try:
            while not ready(port):
                if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
                    log.seek(0)
                    raise RunStopped(f"It did not start: {' '.join(words)}: {log.read()[-300:]!r}")
                time.sleep(0.01)
            yield Running(port, process.pid, time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait(60)


def accepts(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def resident(pid: int) -> float:
    """MB of a process and all below it, what several have in common counted once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _megabytes(f"/proc/{pid}/smaps_rollup", "Pss") + sum(resident(int(child)) for child in children)


def peak(process: "subprocess.Popen[bytes]") -> float:
    """The most MB that a process has at a time, until its end.

    What `wait4` tells would hold the memory of the process that started it, too.
    """
    most = 0.0
    while process.poll() is None:
        with suppress(OSError, StopIteration):  # it ends at this moment
            most = max(most, _megabytes(f"/proc/{process.pid}/status", "VmHWM"))
        time.sleep(0.02)
    return most


def _megabytes(path: str, field: str) -> float:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
