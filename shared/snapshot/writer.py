"""Write a snapshot: every file synced and read back, the manifest last, then one rename."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from shared.embedding.embedder import Embedder
from shared.index.columns import columns_of, write_columns
from shared.index.duplicates import Duplicates
from shared.index.neighbour_table import NeighbourTable, build_neighbour_table, write_neighbour_table
from shared.index.product_table import ProductImage, StoredTable, write_products
from shared.index.stores import build_store
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import (
    FORMAT,
    PRODUCT_INDEX,
    PRODUCT_PROJECTION,
    SIGNATURE,
    CatalogPart,
    IndexPart,
    Manifest,
    NetworkPart,
    Quality,
    content_name,
    signature,
)
from shared.snapshot.network_files import network_files
from shared.storage.files import copy_synced, digest_of, sync_folder, write_synced
from shared.vectors.projection import Projection
from shared.vectors.unit import Vectors


@dataclass(frozen=True, slots=True)
class ProductSpace:
    """The rows' unit vectors `(n, k)` in the space in which products are compared, and the map into it, None where that
    is the network's own. The first `own` values are of the image itself, others behind them of its whole product."""

    projection: Projection | None
    vectors: Vectors
    own: int


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a new snapshot. `images` and the rows of `vectors` correspond, and are grouped by product.
    `products` is None where products are compared in the space of `vectors`."""

    partition: Partition
    images: Sequence[ProductImage]
    vectors: Vectors
    embedder: Embedder
    projection: Projection | None
    store: str
    catalog: CatalogPart
    failures: Mapping[str, int]
    report: bytes
    refused_csv: bytes
    quality: Quality = field(default_factory=Quality)
    neighbours: NeighbourTable | None = None
    products: ProductSpace | None = None
    duplicates: Duplicates = field(default_factory=lambda: Duplicates.of(()))


def write_snapshot(data: Path, draft: Draft, key: str | None = None) -> str:
    """Write the snapshot, signed if there is a key, and return its id. It does not serve before `activate`.

    Hold the partition's lock (`exclusive`) meanwhile. Raises `OSError` on a full disk, leaving nothing behind.
    """
    place = PartitionFolder(data, draft.partition)
    folder = place.writing
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        built = build_store(draft.store, draft.vectors, folder)
        write_products(draft.images, folder)
        write_columns(columns_of(image.attributes for image in draft.images), folder)
        table = StoredTable(folder)
        compared = draft.products.vectors if draft.products else draft.vectors
        near = draft.neighbours or build_neighbour_table(compared, table.groups)
        write_neighbour_table(near, folder)
        draft.duplicates.write(folder)
        if draft.projection:
            draft.projection.write(folder)
        if draft.products:
            build_store(draft.store, draft.products.vectors, folder, PRODUCT_INDEX)
            if draft.products.projection:
                draft.products.projection.write(folder, PRODUCT_PROJECTION)
        write_synced(folder / "report.json", draft.report)
        write_synced(folder / "refused.csv", draft.refused_csv)
        network = network_files(draft.embedder.files())
        for name, path in network.items():
            copy_synced(path, folder / name)
        now = datetime.now(UTC)
        manifest = Manifest(
            format=FORMAT,
            department=draft.partition.department,
            domain=draft.partition.domain,
            created=now.isoformat(timespec="seconds"),
            count=len(draft.vectors),
            products=table.count,
            dimension=draft.vectors.shape[1],
            metric="inner_product",
            store=draft.store,
            embedder=NetworkPart(**asdict(draft.embedder.spec), files=tuple(network)),
            catalog=draft.catalog,
            failures=draft.failures,
            quality=draft.quality,
            index=IndexPart(**asdict(built), neighbours_recall_at_10=round(near.recall, 4)),
            files={path.name: digest_of(path) for path in sorted(folder.iterdir())},
            product_dimension=compared.shape[1] if draft.products else None,
        ).to_json()
        write_synced(folder / "manifest.json", manifest)
        if key:
            write_synced(folder / SIGNATURE, signature(manifest, key))
        sync_folder(folder)
        snapshot_id = f"{now:%Y%m%dT%H%M%SZ}-{content_name(manifest)}"
        place.add(folder, snapshot_id)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return snapshot_id
