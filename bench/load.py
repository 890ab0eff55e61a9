"""Benchmarks of loading: memory, and time to the first vector and to the first answers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bench.figure import Bar, Figure
from bench.made import snapshot_of
from bench.material import Material
from bench.opening import example
from bench.pipeline import PARTITION, indexed
from bench.process import ROOT, resident
from bench.server import connected, products, served
from shared.embedding.embedder import Embedder
from shared.errors import RunStopped
from shared.search.search import similar_to_photo

_WORKERS = 4
_EACH = 16  # photos for each worker on the average, so that none is left out
_ALIKE = 1e-3  # of a vector's largest value
_SEARCH = f"/v1/{PARTITION}/search"
Answers = Sequence[str]


class _Opened(NamedTuple):
    """Seconds from the command to the first vector, the MB that its process takes then, and the vector."""

    seconds: float
    memory: float
    vector: Sequence[float]


def photo_figures(material: Material) -> Iterator[Figure]:
    """Measure a network in a fresh process, and servers that answer photos.

    What is right is worked out last: memory that this process has in common with others is theirs by halves only.
    """
    data, snapshot = indexed(material)
    photo, rounds = material.questions[0].read_bytes(), material.sizes.rounds
    opened = [_opened(snapshot.folder / "network.0.xml") for _ in range(rounds)]
    started = [_started(data, photo) for _ in range(rounds)]
    loads = [_loaded(data, photo, workers) for workers in (1, _WORKERS)]
    network = snapshot.load_embedder()
    truth = [answer.image.product_id for answer in similar_to_photo(snapshot, network, photo)]
    yield from _opening_figures(network, opened)
    wrong = "" if all(answer == truth for _, answer in started) else "the first answer is not the one found directly"
    at_most = Bar(2, most=True, absolute=True)
    taken = median(taken for taken, _ in started)
    yield Figure("start to first photo answered", taken, "s", bar=at_most, wrong=wrong)
    right = all(answer == truth for _, answers in loads for answer in answers)
    wrong = "" if right else "a served answer is not the one found directly"
    (one, _), (all_of_them, _) = loads
    at_most = Bar(700, most=True, absolute=True)
    yield Figure(f"memory of {_WORKERS} workers", all_of_them, "MB", "1 worker", one, at_most, wrong)


def _opened(path: Path) -> _Opened:
    """Open a converted network in a fresh process. Raises `RunStopped` if that fails."""
    command = [sys.executable, "-m", "bench.opening", str(path)]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # a pipe
        if not (line := process.stdout.readline()):
            raise RunStopped(f"{path} was not opened.")
        return _Opened(time.perf_counter() - start, resident(process.pid), json.loads(line))


def _opening_figures(network: Embedder, opened: Sequence[_Opened]) -> Iterator[Figure]:
    exact = network.embed(example(network.spec.image_size))[0]
    right = all(np.allclose(one.vector, exact, atol=_ALIKE * np.abs(exact).max()) for one in opened)
    wrong, name = "" if right else "the vector is not the one found here", f"{network.spec.name}, fresh process"
    taken, memory = (median(values) for values in zip(*((one.seconds, one.memory) for one in opened), strict=True))
    yield Figure(f"{name}: first vector", taken, "s", bar=Bar(0.6, most=True, absolute=True), wrong=wrong)
    yield Figure(f"{name}: memory", memory, "MB", bar=Bar(220, most=True, absolute=True), wrong=wrong)


def _started(data: Path, photo: bytes) -> tuple[float, Answers]:
    """Return the seconds from the command to the first answered photo, and the answer."""
    with served(data, 2, _SEARCH, photo) as server, connected(server.port) as connection:
        return server.seconds, products(connection, _SEARCH, photo)


def _loaded(data: Path, photo: bytes, workers: int) -> tuple[float, Sequence[Answers]]:
    """Return the MB of so many workers that have answered photos, shared memory counted once, and the answers."""
    with served(data, workers, until="/readyz") as server, ThreadPoolExecutor(2 * workers) as clients:

        def asked(_: int) -> list[str]:
            with connected(server.port) as connection:
                return products(connection, _SEARCH, photo)

        answers = list(clients.map(asked, range(_EACH * workers)))
        return resident(server.pid), answers


def start_figures(material: Material) -> Iterator[Figure]:
    """Measure from the command to the first product -> products answer."""
    count, taken, wrong = material.sizes.some, [], ""
    data, snapshot = snapshot_of(material.work, count)
    path = f"/v1/{snapshot.manifest.partition}/products/p0/similar"
    near = [f"p{row}" for row in snapshot.neighbour_table.rows[0, :10].tolist()]
    for _ in range(material.sizes.rounds):
        with served(data, 2, until=path) as server, connected(server.port) as connection:
            taken.append(server.seconds)
            if products(connection, path) != near:
                wrong = "the first answer is not the snapshot's"
    bar = Bar(2, most=True, absolute=True)
    yield Figure(f"start to first answer, {count:,} products", median(taken), "s", bar=bar, wrong=wrong)


FIGURES = (photo_figures, start_figures)
