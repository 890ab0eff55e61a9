"""`make index` as a command of its own, timed and weighed, over pictures on a local image server."""

import contextlib
import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.material import Shot
from shared.errors import RunStopped
from shared.partition import Partition

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Run:
    """How long a run took, and its peak memory in MB."""

    seconds: float
    memory: float


def index(data: Path, partition: Partition, shots: Sequence[Shot], images: str = "file://{path}") -> Run:
    """`python -m indexer` over these pictures; `images` says where they lie. Raises `RunStopped` where it fails."""
    data.mkdir(parents=True, exist_ok=True)
    catalog = data / "catalog.csv"
    with catalog.open("w", newline="", encoding="utf-8") as file:
        rows = ((shot.product_id, number, shot.path) for number, shot in enumerate(shots))
        csv.writer(file, delimiter=";").writerows([("product_id_model", "id", "path"), *rows])
    command = [sys.executable, "-m", "indexer", "index", "--data", str(data), "--catalog", str(catalog)]
    command += ["--department", partition.department, "--domain", partition.domain, "--image-url", images, "--force"]
    log = data / "index.log"
    start = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)  # the only way to learn what this one child took
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunStopped(f"make index failed; its log is {log}")
    return Run(time.perf_counter() - start, usage.ru_maxrss / 1024)


@contextlib.contextmanager
def image_server(folder: Path) -> Iterator[str]:
    """An HTTP server over a folder, in a process of its own; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    process = subprocess.Popen(
        [*command, "--directory", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
