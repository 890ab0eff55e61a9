"""What a server takes: memory, by how many workers, and time to its first answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from bench.figure import Bar, Figure
from bench.made import snapshot_of
from bench.material import Material
from bench.pipeline import PARTITION, indexed
from bench.process import resident
from bench.server import connected, products, served
from shared.similar import similar_to_photo

_WORKERS = 4
_EACH = 16  # photos for each worker on the average, so that none is left out


def memory_figures(material: Material) -> Iterator[Figure]:
    """Resident memory after photos, what processes share counted once."""
    data, snapshot = indexed(material)
    photo, wrong, seen = material.questions[0].read_bytes(), "", []
    found = similar_to_photo(snapshot, snapshot.load_embedder(), photo)
    truth = [answer.image.product_id for answer in found]
    for workers in (1, _WORKERS):
        with served(data, workers, until="/readyz") as server, ThreadPoolExecutor(2 * workers) as clients:

            def asked(_: int, port: int = server.port) -> list[str]:
                with connected(port) as connection:
                    return products(connection, f"/v1/{PARTITION}/search", photo)

            if any(answer != truth for answer in clients.map(asked, range(_EACH * workers))):
                wrong = "a served answer is not the one found directly"
            seen.append(resident(server.pid))
    yield Figure(f"memory of {_WORKERS} workers", seen[1], "MB", "1 worker", seen[0], Bar(1.5, most=True), wrong)


def start_figures(material: Material) -> Iterator[Figure]:
    """From the command to the first product -> products answer."""
    count, taken, wrong = material.sizes.some, [], ""
    data, snapshot = snapshot_of(material.work, count)
    path = f"/v1/{snapshot.manifest.partition}/products/p0/similar"
    near = [f"p{row}" for row in snapshot.neighbours.rows[0, :10].tolist()]
    for _ in range(material.sizes.rounds):
        with served(data, 2, until=path) as server, connected(server.port) as connection:
            taken.append(server.seconds)
            if products(connection, path) != near:
                wrong = "the first answer is not the snapshot's"
    bar = Bar(2, most=True, absolute=True)
    yield Figure(f"start to first answer, {count:,} products", median(taken), "s", bar=bar, wrong=wrong)


FIGURES = (memory_figures, start_figures)
