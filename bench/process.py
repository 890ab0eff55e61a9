"""Run other processes: commands that listen on loopback while they are needed; and measure a process's memory."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import RunStopped

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 120.0
_SELDOM = 10  # of so many looks at a process, one is at what it started, too: that takes longer


@dataclass(frozen=True, slots=True)
class Running:
    """A process that listens, and the seconds until it was ready."""

    port: int
    pid: int
    seconds: float


@contextmanager
def running(
    command: Sequence[str],
    ready: Callable[[int], bool],
    told: Mapping[str, str] | None = None,
    log: Path | None = None,
    **how: Any,
) -> Iterator[Running]:
    """Run a command with the port in place of `{port}`, from when it is ready; what it says goes into the log, if there
    is one. Raises `RunStopped` if it never is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in command]
    with log.open("w+b") if log else tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(words, stdout=said, stderr=said, cwd=ROOT, env={**os.environ, **(told or {})}, **how)
        try:
            while not ready(port):
                if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
                    said.seek(0)
                    raise RunStopped(f"It did not start: {' '.join(words)}: {said.read()[-300:]!r}")
                time.sleep(0.01)
            yield Running(port, process.pid, time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait(60)


def accepts(port: int) -> bool:
    """Tell whether a process listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def resident(pid: int) -> float:
    """The MB of a process and all below it, shared memory counted once."""
    return resident_alone(pid) + sum(map(resident, children(pid)))


def resident_alone(pid: int) -> float:
    """The MB of a process, memory that it shares with others divided among them."""
    return _megabytes(f"/proc/{pid}/smaps_rollup", "Pss")


class Peak(NamedTuple):
    """The most MB that a process had at a time, and those of the largest process that it starts."""

    own: float
    below: float


def peak(process: "subprocess.Popen[bytes]") -> Peak:
    """Watch a process until its end.

    What `wait4` tells would hold the memory of the process that started it, too.
    """
    own, below, looks = 0.0, 0.0, 0
    while process.poll() is None:
        own = max(own, _most(process.pid))
        if looks % _SELDOM == 0:
            below = max([below, *map(_most, children(process.pid))])
        looks += 1
        time.sleep(0.02)
    return Peak(own, below)


def children(pid: int) -> list[int]:
    """The processes that any thread of it started."""
    found = list[int]()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ends at this moment
            found += map(int, path.read_text().split())
    return found


def _most(pid: int) -> float:
    with suppress(OSError, StopIteration):  # it ends at this moment
        return _megabytes(f"/proc/{pid}/status", "VmHWM")
    return 0.0


def _megabytes(path: str, field: str) -> float:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
