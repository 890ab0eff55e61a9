"""Small snapshots, and the products in them."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from shared.depot.depot import DepotPartition
from shared.depot.latest import Latest
from shared.embedding.registry import load
from shared.index.duplicates import Duplicates
from shared.index.product_table import ProductImage
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import CatalogPart, Quality
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, ProductSpace, write_snapshot
from shared.storage.bucket import Bucket
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors, normalise

HOCKEY = Partition("371", "0341")
LEVELS = {"similar": 0.5, "variant": 0.7, "same": 0.9, "false_alarms": {"same": 0.1}, "lost": 0.0, "fitted_on": "x"}


def unit(*rows: Sequence[float]) -> Vectors:
    """Rows as unit vectors."""
    return normalise(np.array(rows, np.float32))


def snapshot_of(
    data: Path,
    products: list[str],
    vectors: Vectors,
    partition: Partition = HOCKEY,
    quality: Mapping[str, Any] = MappingProxyType({}),
    found: Mapping[str, float] = MappingProxyType({}),
    attributes: Sequence[Mapping[str, str]] = (),
    model: str = "colour_grid",
    projection: Projection | None = None,
    space: ProductSpace | None = None,
    duplicates: Sequence[tuple[int, int]] = (),
) -> Snapshot:
    """A current snapshot of these unit vectors; `products[i]` is the product of row i. `space`: another one in which
    products are compared."""
    of_rows = attributes or [{"name": f"{product}!"} for product in products]
    named = enumerate(zip(products, of_rows, strict=True))
    images = [ProductImage(product, f"i{n}", f"http://cdn/{n}.jpg", own) for n, (product, own) in named]
    report = json.dumps({"found": dict(found)}).encode()
    known = TypeAdapter(Quality).validate_python(dict(quality))
    network = load(model)
    source = CatalogPart("x")
    draft = Draft(partition, images, vectors, network, projection, "faiss", source, {}, report, b"row\n", known)
    draft = replace(draft, products=space, duplicates=Duplicates.of(duplicates))
    here = PartitionFolder(data, partition)
    with here.exclusive():
        here.activate(write_snapshot(data, draft))
    return Snapshot.current(data, partition)


def hockey(data: Path) -> PartitionFolder:
    """The folder of ice hockey below a data folder."""
    return PartitionFolder(data, HOCKEY)


def hockey_in(bucket: Bucket) -> DepotPartition:
    """Ice hockey in a depot."""
    return DepotPartition(bucket, HOCKEY)


def standing(bucket: Bucket) -> list[str]:
    """The ids of the current and the previous snapshot of ice hockey in a depot."""
    latest = hockey_in(bucket).latest()
    return [each for each in (latest.current, latest.previous) if each] if latest else []


def point(bucket: Bucket, latest: Latest, key: str | None = None) -> None:
    """Replace LATEST of ice hockey, as somebody who can write the depot, and who may have a key."""
    held = hockey_in(bucket).held_latest()
    assert bucket.replace("snapshots/371/0341/LATEST", latest.to_bytes(key), held.tag if held else None)


def catalog(seed: int, count: int) -> tuple[list[str], list[dict[str, str]]]:
    """Products with 1 to 4 images, whose attributes differ by image."""
    dice = random.Random(seed)
    products = [f"p{n}" for n in range(count) for _ in range(dice.randint(1, 4))]
    rows = [
        {
            "brand": dice.choice(["CCM", "Bauer", "Warrior", ""]),
            "price": dice.choice(["", *map(str, range(0, 200, 5)), "19.99"]),
            "code": str(dice.randrange(count)),
            "view": dice.choice(["front", "side"]),
        }
        for _ in products
    ]
    return products, rows


def crowd(count: int = 300, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Products with 1 to 5 images each; coarse values, so that there are many ties."""
    rng = np.random.default_rng(seed)
    products = [f"p{number}" for number in range(count) for _ in range(rng.integers(1, 6))]
    return products, unit(*(rng.integers(-1, 2, (len(products), 4)) + np.array([0, 0, 0, 0.5])))
