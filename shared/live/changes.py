"""Live changes of one snapshot: read from the journal, and placed in the snapshot's space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.index.product_table import ProductImage, line_of
from shared.live.reading import Change, Clock, Pins, Reading
from shared.live.tables import Added
from shared.snapshot.manifest import Manifest
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import SnapshotView, Space
from shared.vectors.projection import pulled
from shared.vectors.unit import Vectors, normalise, usable


@dataclass(frozen=True, slots=True)
class LiveChanges:
    """The changes of a journal up to `clock`, as they concern one snapshot.

    `numbers`: of each product that was put or deleted, its number in the view, None if deleted; `places`: its number in
    the snapshot, and that of each unavailable product; `waiting`: change and place of images that this snapshot's
    network has still to embed, until when their products stay as they were.
    """

    clock: Clock
    unavailable: frozenset[str]
    pins: Mapping[str, Pins]
    added: Sequence[Added]
    numbers: Mapping[str, int | None]
    places: Mapping[str, int | None]
    waiting: Sequence[tuple[int, int]]

    @property
    def version(self) -> str:
        """A text that differs after every change that may change an answer; the same in every process."""
        return f"{self.clock.seq}.{len(self.waiting)}" if self.waiting else str(self.clock.seq)

    @property
    def unavailable_numbers(self) -> list[int]:
        """The numbers in the view of products that are never hits."""
        found = (self.numbers[name] if name in self.numbers else self.places[name] for name in self.unavailable)
        return [number for number in found if number is not None]


def read_changes(base: Snapshot, reading: Reading, before: LiveChanges | None = None) -> LiveChanges | None:
    """Read the journal's changes of this snapshot; None if there are none. Damaged ones are left out.

    What is in `before`, of the same snapshot, is not read again. Raises `sqlite3.Error`.
    """
    clock = reading.clock()
    if before and before.clock.journal != clock.journal:
        before = None
    same = before and before.clock.availability == clock.availability
    unavailable = before.unavailable if before and same else reading.unavailable()
    pins = before.pins if before and before.clock.pins == clock.pins else reading.pins()
    changes = reading.changes(merged_up_to(base.manifest, clock.journal))
    if not (unavailable or pins or changes):
        return None
    known = {product.seq: product for product in before.added} if before else {}
    added: list[Added] = []
    waiting: list[tuple[int, int]] = []
    numbers: dict[str, int | None] = {}
    for change in changes:
        put = None if change.attributes is None else known.get(change.seq) or _added(base, reading, change)
        if isinstance(put, list):
            waiting += put
            continue
        if change.attributes is not None and put is None:
            continue
        numbers[change.product_id] = base.products.count + len(added) if put and put.lines else None
        if put and put.lines:
            added.append(put)
    found = before.places if before else {}
    names = unavailable | numbers.keys()
    places = {name: found[name] if name in found else base.products.find(name) for name in names}
    return LiveChanges(clock, unavailable, pins, added, numbers, places, waiting)


def merged_up_to(manifest: Manifest, journal: str) -> int:
    """The last change of products that this snapshot was indexed with; 0 if it is of another journal."""
    live = manifest.catalog.live
    return live.seq if live and live.journal == journal else 0


def catalog_vectors(snapshot: SnapshotView, raw: Vectors, space: Space = Space.PHOTOS) -> Vectors:
    """Map raw vectors of the images of one product `(n, d)` to unit vectors `(n, k)`, as an index run would; a row that
    has no direction becomes all NaN."""
    apart = space is Space.PRODUCTS and snapshot.manifest.product_dimension is not None
    projection = snapshot.product_projection if apart else snapshot.projection
    if projection is None:
        return normalise(raw[:, : snapshot.spec.plain_dimension])
    rows = projection.images(raw)
    learned = snapshot.manifest.quality.learned
    if apart or not (learned and learned.parts.pull):
        return rows
    return pulled(rows, np.nan_to_num(normalise(rows.sum(axis=0, keepdims=True))))


def _added(base: Snapshot, reading: Reading, change: Change) -> Added | list[tuple[int, int]] | None:
    """The product that was put, or change and place of each of its images that has no vector yet; None if an image is
    damaged."""
    images = reading.addresses(change.seq)
    if not images:
        return None
    raw = reading.vectors(change.seq, base.spec.fingerprint)
    if missing := [(change.seq, place) for place in range(len(images)) if place not in raw]:
        return missing
    stacked = np.stack([raw[place] for place in range(len(images))])
    vectors, compared = (catalog_vectors(base, stacked, space) for space in (Space.PHOTOS, Space.PRODUCTS))
    good = usable(vectors) & usable(compared)
    lines = tuple(
        line_of(ProductImage(change.product_id, image_id, address, change.attributes or {}))
        for (image_id, address), fine in zip(images, good, strict=True)
        if fine
    )
    return Added(change.product_id, change.seq, lines, vectors[good], compared[good])
