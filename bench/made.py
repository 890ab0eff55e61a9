"""Made-up vectors and snapshots of any size, whose nearest neighbours are known without comparing all with all."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.embedding.registry import load
from shared.errors import SnapshotError
from shared.index.neighbour_table import KEPT, NeighbourTable, build_neighbour_table
from shared.index.product_table import ProductImage
from shared.index.row_groups import RowGroups
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import CatalogPart
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from shared.vectors.unit import Vectors, normalise

# Products of one cluster are nearer to each other than to any other: more than a snapshot keeps neighbours.
_CLUSTER, _SPREAD = KEPT + 25, 0.35
_DIMENSION = 256  # as what is learned from a catalog has
_PICTURES, _APART = 4, 0.35  # of a product, and how far they are from it, to how far products are from each other


def vectors_like(count: int, dimension: int, queries: int) -> tuple[Vectors, Vectors]:
    """Make unit vectors `(count, dimension)`, and queries, that lie as those learned from a catalog do: they vary less
    and less from direction to direction, and pictures of a product are near each other."""
    rng = np.random.default_rng(0)
    fall = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    products = rng.standard_normal((count // _PICTURES + 1, dimension), np.float32) * fall

    def pictures(shown: NDArray[np.integer]) -> Vectors:
        return normalise(products[shown] + _APART * fall * rng.standard_normal((len(shown), dimension), np.float32))

    shown = np.arange(count) // _PICTURES
    found = [pictures(shown[start : start + 100_000]) for start in range(0, count, 100_000)]
    return np.concatenate(found), pictures(rng.integers(len(products), size=queries))


def snapshot_of(work: Path, products: int) -> tuple[Path, Snapshot]:
    """Make a data folder with a snapshot of about so many products, a picture each; made once."""
    partition, data = Partition("bench", "products"), work / f"products-{products}"
    try:
        return data, Snapshot.current(data, partition)
    except SnapshotError:
        vectors, near = clustered(products)
        images = [ProductImage(f"p{n}", f"i{n}", f"http://cdn/{n}.jpg", {"name": f"{n}!"}) for n in range(len(vectors))]
        draft = Draft(
            partition,
            images,
            vectors,
            load("colour_grid"),
            None,
            "faiss",
            CatalogPart("made"),
            {},
            b"{}",
            b"",
            neighbours=near,
        )
        here = PartitionFolder(data, partition)
        with here.exclusive():
            here.activate(write_snapshot(data, draft))
        return data, Snapshot.current(data, partition)


def clustered(products: int) -> tuple[Vectors, NeighbourTable]:
    """Make the vectors of about so many products, the same every time, and tell which are near which."""
    rng = np.random.default_rng(0)
    clusters = max(1, products // _CLUSTER)
    vectors, near = np.empty((clusters, _CLUSTER, _DIMENSION), np.float32), []
    for number, block in enumerate(vectors):
        noise = rng.standard_normal(block.shape, np.float32)
        block[:] = normalise(rng.standard_normal(_DIMENSION, np.float32) + _SPREAD * noise)
        found = build_neighbour_table(block, RowGroups(np.arange(_CLUSTER + 1, dtype=np.int32)))
        near.append((found.rows + np.int32(number * _CLUSTER), found.scores))
    rows, scores = (np.concatenate(parts) for parts in zip(*near, strict=True))
    return vectors.reshape(-1, _DIMENSION), NeighbourTable(rows, scores)
