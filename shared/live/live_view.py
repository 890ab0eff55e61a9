"""A snapshot with its live changes, searched as any snapshot is."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.index.filters import Filter
from shared.live.changes import LiveChanges, read_changes
from shared.live.journal import Journal
from shared.live.reading import Reading
from shared.live.tables import AddedTable, LiveColumns, LiveListing, LiveStore, LiveTable
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import NOT_PINNED, Neighbours, Pinned, SnapshotView
from shared.vectors.top_k import DIGITS, best_of_each


class LiveView(SnapshotView):
    """The snapshot `base` with `changes`.

    `gone`, `hidden` `(products,)`: which products are no longer there, and which are never hits.
    """

    def __init__(self, base: Snapshot, changes: LiveChanges) -> None:
        self.base, self.changes, self.waiting = base, changes, changes.waiting
        self.id, self.tag, self.folder = base.id, f"{base.id}+{changes.version}", base.folder
        self.signed = base.signed
        self.manifest, self.verdicts, self.duplicates = base.manifest, base.verdicts, base.duplicates
        self.projection, self.product_projection = base.projection, base.product_projection
        self._added = AddedTable(changes.added)
        self.products: LiveTable = LiveTable(base.products, self._added, changes.numbers)
        self.gone = np.zeros(self.products.count, bool)
        replaced = map(changes.places.get, changes.numbers)
        self.gone[[place for place in replaced if place is not None]] = True
        self.hidden = self.gone.copy()
        self.hidden[changes.unavailable_numbers] = True
        hidden = np.repeat(self.hidden, np.diff(self.products.starts))
        self.store: LiveStore = LiveStore(base.store, [added.vectors for added in changes.added], hidden)
        self.product_store: LiveStore = self.store
        if base.product_store is not base.store:
            vectors = [added.product_vectors for added in changes.added]
            self.product_store = LiveStore(base.product_store, vectors, hidden)

    @cached_property
    def columns(self) -> LiveColumns:
        behind = range(self.base.products.rows, self.products.rows)
        return LiveColumns(self.base.columns, [self.products.image(row).attributes for row in behind])

    @cached_property
    def listing(self) -> LiveListing:
        return LiveListing(self.base.listing, self.base.products.count, self._added, self.gone)

    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        return self.columns.mask(wanted) & self.store.shown

    def pinned(self, product_id: str, product: int) -> Pinned:
        pins = self.changes.pins.get(product_id)
        if pins is None:
            return NOT_PINNED
        blocked = {number for name in pins.blocked if (number := self.products.find(name)) is not None}
        first: dict[int, tuple[int, float]] = {}
        for number in map(self.products.find, pins.pinned):
            if number is not None and number != product and number not in blocked and not self.hidden[number]:
                images = self.products.images(number)
                theirs = self.product_store.vectors(images.start, images.stop)
                scores = (self.query_vectors(product) @ theirs.T).max(axis=0).round(DIGITS)
                first[number] = images[int(scores.argmax())], float(scores.max())
        rows = np.array([row for row, _ in first.values()], np.int64)
        scores = np.array([score for _, score in first.values()], np.float32)
        return Pinned(rows, scores, frozenset(blocked | first.keys()))

    def neighbours(self, product: int, without: Collection[int] = ()) -> Neighbours:
        """Merge the neighbour table with the added products, as far down as that is sure."""
        base = self.base.products
        if product >= base.count:
            return Neighbours(np.zeros(0, np.int64), np.zeros(0, np.float32), whole=False)
        rows, scores, whole = self.base.neighbours(product)
        rows = rows.astype(np.int64)
        if self.changes.added:
            # A product that the table lacks scores at most this, and stands before the added ones.
            floor = -np.inf if whole else scores[-1]
            own = (self.query_vectors(product) @ self.product_store.added.T).max(axis=0).round(DIGITS)
            sure = np.flatnonzero(own > floor)
            own, added = best_of_each(own[sure], base.rows + sure, self.products.owners(base.rows + sure))
            rows, scores = np.concatenate([rows, added]), np.concatenate([scores, own])
            order = np.lexsort((rows, -scores))
            rows, scores = rows[order], scores[order]
        owners = self.products.owners(rows)
        shown = ~self.hidden[owners]
        if without:
            shown &= np.isin(owners, list(without), invert=True)
        return Neighbours(rows[shown], scores[shown], whole)


def live_view(base: Snapshot, reading: Reading, before: SnapshotView | None = None) -> SnapshotView:
    """The view of a snapshot with the journal's changes: the snapshot itself if there are none.

    What a view `before` of the same snapshot holds is not read again. Raises `sqlite3.Error`.
    """
    known = before.changes if isinstance(before, LiveView) and before.base is base else None
    changes = read_changes(base, reading, known)
    return LiveView(base, changes) if changes else base


def current_view(data: Path, snapshot: Snapshot) -> SnapshotView:
    """The view of a snapshot with all live changes that were made by now. Raises `NotKept`."""
    with Journal(data, snapshot.manifest.partition).reading() as reading:
        return live_view(snapshot, reading)
