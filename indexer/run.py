"""Run the index: catalog -> images -> vectors -> metric -> calibration -> snapshot, which then serves."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import numpy as np
from rich.console import Console

from indexer.catalog.parsing import Catalog
from indexer.catalog.sources import Source
from indexer.config import IndexConfig
from indexer.ingest.cache import Cache
from indexer.ingest.merge import merge_live_changes
from indexer.ingest.pipeline import Indexed, index_images
from indexer.metric.alike import choose_product_space
from indexer.metric.choose import ENOUGH_PHOTOS, Metric, learn
from indexer.metric.likeness import style_columns, telling_columns
from indexer.quality import health
from indexer.quality.calibrate import PHOTOS, Calibration, calibrate
from indexer.quality.gate import objections
from indexer.quality.own_product import astray, sentence
from indexer.quality.photos import Photos
from indexer.quality.product_verdicts import fit_product_verdicts
from shared.embedding.embedder import Embedder
from shared.embedding.registry import load
from shared.errors import RunStopped, SnapshotError
from shared.index.columns import Column, columns_of
from shared.index.duplicates import Duplicates
from shared.index.neighbour_table import NeighbourTable, build_neighbour_table
from shared.live.journal import Journal
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import AlikePart, CatalogPart, Quality
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind, Verdicts
from shared.snapshot.writer import Draft, ProductSpace, write_snapshot
from shared.vectors.unit import Vectors


def index(config: IndexConfig, console: Console) -> str | None:
    """Do a whole run. Returns the id of the new snapshot, or None if nothing changed. Raises `SimilarityError`."""
    embedder = load(config.model, config.weights, config.runtime)
    catalog = config.source.read(config.limit)
    with PartitionFolder(config.data, config.partition).exclusive(), Cache(config.data) as cache:
        return Run(config, embedder, cache, console).go(catalog)


@dataclass(frozen=True, slots=True)
class UserPhotos:
    """Photos that shoppers took: the raw vectors `(n, d)` of those to learn from, None if there are none; and the bytes
    of some others, to fit the verdicts by."""

    raw: Vectors | None = None
    held_out: Sequence[bytes] = ()


class Run:
    """The steps of a run. The caller holds the partition's lock."""

    def __init__(self, config: IndexConfig, embedder: Embedder, cache: Cache, console: Console) -> None:
        self._config, self._embedder, self._cache, self._console = config, embedder, cache, console
        self._folder = PartitionFolder(config.data, config.partition)

    def go(self, catalog: Catalog) -> str | None:
        """Take every step. Returns as `index` does."""
        title = f"{self._config.partition} with {self._embedder.spec.name}"
        self._say(f"Indexing {title}: {catalog.count:,} rows of {catalog.uri}")
        catalog, live = merge_live_changes(catalog, Journal(self._config.data, self._config.partition), self._cache)
        indexed = index_images(catalog, self._config.source.image_url, self._embedder, self._cache, self._config.plan)
        photos = self.read_user_photos()
        source = CatalogPart(catalog.uri, catalog.etag, catalog.count, self.digest(indexed, photos), live)
        if not self._config.force and (same := self.made_from(source)):
            self._console.print(indexed.report.table(title))
            self._say(f"Nothing changed since the snapshot {same}: it stays current.")
            return None
        metric = self.choose_metric(indexed, photos)
        columns = columns_of(image.attributes for image in indexed.images)
        telling = telling_columns(columns, indexed.groups, self._config.alike)
        space, alike = self.choose_product_space(indexed, metric, telling)
        neighbours = build_neighbour_table(space.vectors if space else metric.vectors, indexed.groups)
        faults = health.find(indexed, neighbours, self._cache.stats)
        calibration = self.calibrate(indexed, metric, photos)
        duplicates = health.duplicates(faults, indexed, telling)
        styles = style_columns(columns, indexed.groups, self._config.alike)
        verdicts = self.fit_product_verdicts(indexed, metric, space, styles, neighbours, duplicates)
        quality = Quality(
            estimate=round(calibration.estimate, 4),
            estimated_by=calibration.by,
            verdicts={**calibration.verdicts, **verdicts},
            coverage=round(indexed.groups.count / indexed.report.products, 4),
            health=health.counts(faults),
            learned=metric.learned,
            alike=alike,
            windows=calibration.windows,
        )
        draft = self.draft(source, indexed, metric, space, neighbours, calibration.found, quality, duplicates)
        snapshot_id = write_snapshot(self._config.data, draft, self._config.signing_key)
        self._console.print(indexed.report.table(title))
        self.tell(snapshot_id, indexed, metric, calibration, faults)
        if said := sentence(astray(indexed, metric, duplicates), len(indexed.images)):
            self._say(said)
        try:
            self.publish(snapshot_id)
        finally:  # those that were refused go with time, too
            self._folder.keep_newest(self._config.keep)
        self._say(f"Snapshot {snapshot_id} is current. Serve it: make serve")
        return snapshot_id

    def read_user_photos(self) -> UserPhotos:
        """Embed the shoppers' photos, and hold some out if there are enough."""
        folder = self._config.user_photos
        if not (self._config.learned and folder):
            return UserPhotos()
        self._say(f"Learning from the photos in {folder}")
        source = Source.of(str(folder), None, "", self._config.partition)
        plan = replace(self._config.plan, max_failures=1)
        found = index_images(source.read(), source.image_url, self._embedder, self._cache, plan)
        if len(found.images) < ENOUGH_PHOTOS + PHOTOS:
            return UserPhotos(found.raw)
        order = np.random.default_rng(0).permutation(len(found.images))
        held_out = [self._cache.picture(found.images[number]) for number in order[:PHOTOS]]
        return UserPhotos(found.raw[order[PHOTOS:]], held_out)

    def digest(self, indexed: Indexed, photos: UserPhotos) -> str:
        """A digest of all inputs of a snapshot, so that the same one need not be made twice."""
        digest = hashlib.sha256()
        config = self._config
        version = metadata.version("image-similarity")
        settings = [version, config.store, config.learned, config.alike, str(self._embedder.spec)]
        for part in (settings, list(map(str, indexed.images)), indexed.contents):
            digest.update(json.dumps(part).encode())
        digest.update(indexed.report.refused_csv())
        digest.update(b"" if photos.raw is None else photos.raw.tobytes())
        return digest.hexdigest()

    def made_from(self, source: CatalogPart) -> str | None:
        """The id of the current snapshot if it is whole and made from the same inputs."""
        try:
            current = Snapshot.current(self._config.data, self._config.partition, self._config.signing_key)
        except SnapshotError:
            return None
        return current.id if current.manifest.catalog.material == source.material else None

    def choose_metric(self, indexed: Indexed, photos: UserPhotos) -> Metric:
        """Choose the space to search: the one that the catalog teaches, or the network's own."""
        if not self._config.learned:
            return Metric.plain(indexed.raw, indexed.plain)
        return learn(indexed.raw, indexed.groups.owners, indexed.plain, photos.raw)

    def choose_product_space(
        self, indexed: Indexed, metric: Metric, telling: Sequence[Column]
    ) -> tuple[ProductSpace | None, AlikePart | None]:
        """The space in which products are compared with each other, if it is another one than that of photos."""
        if not self._config.learned:
            return None, None
        return choose_product_space(indexed.raw, indexed.contents, indexed.groups, indexed.plain, metric, telling)

    def calibrate(self, indexed: Indexed, metric: Metric, photos: UserPhotos) -> Calibration:
        """Estimate the quality, and fit the verdicts of photos."""
        embedded = Photos(self._embedder, self._cache, several=metric.learned is not None)
        return calibrate(
            indexed, metric, embedded, lambda row: self._cache.picture(indexed.images[row]), photos.held_out
        )

    def fit_product_verdicts(
        self,
        indexed: Indexed,
        metric: Metric,
        space: ProductSpace | None,
        styles: Sequence[Column],
        neighbours: NeighbourTable,
        duplicates: Duplicates,
    ) -> dict[QueryKind, Verdicts]:
        """Fit the verdicts between products."""
        verdicts = fit_product_verdicts(
            indexed,
            space or ProductSpace(metric.projection, metric.vectors, metric.vectors.shape[1]),
            neighbours,
            duplicates,
            Photos(self._embedder, self._cache, several=False),
            lambda row: self._cache.picture(indexed.images[row]),
            styles,
        )
        return {QueryKind.PRODUCT: verdicts} if verdicts else {}

    def draft(
        self,
        source: CatalogPart,
        indexed: Indexed,
        metric: Metric,
        space: ProductSpace | None,
        neighbours: NeighbourTable,
        found: Mapping[str, float],
        quality: Quality,
        duplicates: Duplicates,
    ) -> Draft:
        """The content of the snapshot. `found`: the share of each product's queries that found it."""
        config, report = self._config, indexed.report
        return Draft(
            partition=config.partition,
            images=indexed.images,
            vectors=metric.vectors,
            embedder=self._embedder,
            projection=metric.projection,
            store=config.store,
            catalog=source,
            failures=report.kinds,
            report=json.dumps({**report.to_dict(), "found": dict(found)}, indent=1).encode(),
            refused_csv=report.refused_csv(),
            quality=quality,
            neighbours=neighbours,
            products=space,
            duplicates=duplicates,
        )

    def tell(
        self,
        snapshot_id: str,
        indexed: Indexed,
        metric: Metric,
        calibration: Calibration,
        faults: Sequence[health.Finding],
    ) -> None:
        """Print the result of the run, and publish the catalog's health."""
        data, partition = self._config.data, self._config.partition
        if indexed.report.refused:
            refused = self._folder.snapshot(snapshot_id) / "refused.csv"
            self._say(f"Each refused row, with its reason: {refused}")
        if metric.learned:
            self._say(f"Learned: {str(metric.learned.parts) or 'nothing'}")
        self._say(f"Estimated R@1: {calibration.estimate:.3f}, by {calibration.by}")
        folder = data / "health" / partition.department / partition.domain
        self._say(health.publish(folder, faults, self._cache.picture))

    def publish(self, snapshot_id: str) -> None:
        """Make the new snapshot the one that serves, unless it is worse than that one. Raises `RunStopped`."""
        config = self._config
        new = Snapshot(self._folder.snapshot(snapshot_id))
        try:
            current = Snapshot.current(config.data, config.partition)
        except SnapshotError:  # none, or none that could serve
            current = new
        reasons = objections(new, current, config.max_drop)
        if reasons and not config.force:
            raise RunStopped(
                f"The snapshot {snapshot_id} is not made current; {current.id} goes on serving. {' '.join(reasons)} "
                "Publish it all the same: FORCE=1. Allow a larger fall: MAX_DROP="
            )
        self._folder.activate(snapshot_id)

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True)
