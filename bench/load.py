"""What a server takes: memory, by how many workers, and time to its first answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.config import BenchConfig
from bench.figure import Bar, Figure, medians
from bench.gunicorn import Server, served
from bench.indexing import index
from bench.made import snapshot_of
from bench.material import material
from shared.partition import Partition
from shared.similar import similar_to_photo
from shared.snapshot import Snapshot

_WORKERS = 4
_PARTITION = Partition("bench", "photos")


def figures(config: BenchConfig) -> Iterator[Figure]:
    """Memory of four workers against one, and start-up."""
    yield _memory(config)
    yield _startup(config)


def _memory(config: BenchConfig) -> Figure:
    """Resident memory after photos, what is shared counted once."""
    shown, data = material(config), config.work / "photos"
    index(data, _PARTITION, shown.catalog[: config.sizes.images])
    photo = (shown.photos or shown.catalog)[0].path.read_bytes()
    snapshot = Snapshot.current(data, _PARTITION)
    found = similar_to_photo(snapshot, snapshot.load_embedder(), photo)
    truth, wrong, seen = [answer.image.product_id for answer in found], "", []
    for workers in (1, _WORKERS):
        with served(data, workers, until="/readyz") as server, ThreadPoolExecutor(2 * workers) as clients:
            answers = list(clients.map(lambda _, server=server: _asked(server, photo), range(4 * workers)))
            seen.append(_resident(server.pid))
        if any(answer != truth for answer in answers):
            wrong = "a served answer is not the one found directly"
    bar = Bar(1.5, most=True)
    return Figure(f"memory of {_WORKERS} workers", seen[1], "MB", "1 worker", seen[0], bar, wrong)


def _startup(config: BenchConfig) -> Figure:
    """From the command to the first product -> products answer."""
    count, data = config.sizes.startup, config.work / "startup"
    snapshot = snapshot_of(data, count)
    path = f"/v1/{snapshot.manifest.partition}/products/p0/similar"
    wrong = ""

    def start() -> float:
        nonlocal wrong
        with served(data, 1, until=path) as server, server.client() as client:
            row = snapshot.neighbours.rows[0, :10].tolist()
            if client.products(path) != [f"p{near}" for near in row]:
                wrong = "the first answer is not the snapshot's"
            return server.seconds

    (seconds,) = medians(config.sizes.rounds, start)
    bar = Bar(2, most=True, absolute=True)
    return Figure(f"start to first answer, {count:,} products", seconds, "s", bar=bar, wrong=wrong)


def _asked(server: Server, photo: bytes) -> list[str]:
    with server.client() as client:
        return client.products(f"/v1/{_PARTITION}/search", photo)


def _resident(pid: int) -> float:
    """MB of a process and all below it: its proportional share of what it has in common with others."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    mine = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return mine + sum(_resident(int(child)) for child in children)
