"""Made-up vectors and snapshots of any size, whose nearest neighbours are known without comparing all with all."""

from pathlib import Path

import numpy as np

from shared.embedders import load
from shared.errors import SnapshotError
from shared.neighbours import Neighbours, nearest_products
from shared.partition import Partition
from shared.products import ProductImage
from shared.snapshot import Draft, Snapshot, activate, exclusive, write_snapshot
from shared.vectors import Vectors, normalise

# Products of one cluster are nearer to each other than to any other: more than a snapshot keeps neighbours.
_CLUSTER, _KEPT, _SPREAD = 125, 100, 0.35
_DIMENSION = 64
# How many directions vectors of networks spread in, more or less.
_RANK = 32


def vectors_like(count: int, dimension: int, seed: int = 0) -> Vectors:
    """Unit vectors `(count, dimension)` that lie as a network's do: in few directions, with a little of all others."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(min(_RANK, dimension), dimension)).astype(np.float32)
    found = np.empty((count, dimension), np.float32)
    for start in range(0, count, 100_000):
        block = found[start : start + 100_000]
        share = rng.standard_normal((len(block), len(directions)), np.float32)
        block[:] = normalise(share @ directions + rng.standard_normal(block.shape, np.float32))
    return found


def snapshot_of(data: Path, products: int) -> Snapshot:
    """A current snapshot of so many products, a picture each; made once."""
    partition = Partition("bench", f"n{products}")
    try:
        return Snapshot.current(data, partition)
    except SnapshotError:
        vectors, neighbours = _clustered(products)
        images = [
            ProductImage(f"p{n}", f"i{n}", f"http://cdn/{n}.jpg", {"name": f"Product {n}"}) for n in range(products)
        ]
        network = load("colour_grid")
        draft = Draft(
            partition, images, vectors, network, None, "faiss", {"uri": "made up"}, {}, {}, b"", neighbours=neighbours
        )
        with exclusive(data, partition):
            activate(data, partition, write_snapshot(data, draft))
        return Snapshot.current(data, partition)


def _clustered(products: int) -> tuple[Vectors, Neighbours]:
    rng = np.random.default_rng(0)
    blocks, rows, scores = [], [], []
    kept = min(_KEPT, products - 1)
    for start in range(0, products, _CLUSTER):
        size = min(_CLUSTER, products - start)
        centre = rng.normal(size=_DIMENSION) / np.sqrt(_DIMENSION)
        noise = rng.normal(size=(size, _DIMENSION)) / np.sqrt(_DIMENSION)
        block = normalise((centre + _SPREAD * noise).astype(np.float32))
        near = nearest_products(block, np.arange(size + 1, dtype=np.int32), kept)
        blocks.append(block)
        # The last cluster may be short; then its products have their few neighbours again and again.
        rows.append(np.resize(near.rows.T, (kept, size)).T + np.int32(start))
        scores.append(np.resize(near.scores.T, (kept, size)).T)
    return np.concatenate(blocks), Neighbours(np.concatenate(rows), np.concatenate(scores))
