"""What changed since a snapshot was made, laid over it, so that both questions are asked of it as of any snapshot.

Products that were put stand behind those of the snapshot, in the order of their changes, as they will after the next
index run; so equal scores come in the same order before and after it. Nothing in it changes once it is made.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.index.columns import Column, Columns
from shared.index.listing import Attribute, Listing
from shared.index.product_table import ProductImage, ProductTable, line_of
from shared.index.vector_store import VectorStore
from shared.live.journal import Change, Clock, Journal, Pins, Reading
from shared.search.queries import asking
from shared.snapshot.manifest import Manifest
from shared.snapshot.reader import Snapshot
from shared.vectors.projection import pulled
from shared.vectors.top_k import DIGITS, best_of_each
from shared.vectors.unit import Vectors, normalise, usable


@dataclass(frozen=True, slots=True)
class Added:
    """A product that was put: a line of JSON and a unit vector `(images, d)` for each of its images."""

    product_id: str
    seq: int
    lines: tuple[bytes, ...]
    vectors: Vectors


class AddedTable(ProductTable):
    """The table of added products, in memory. It finds none by its id."""

    def __init__(self, added: Sequence[Added]) -> None:
        self._texts = [line for product in added for line in product.lines]
        self.starts = np.cumsum([0, *(len(product.lines) for product in added)], dtype=np.int32)

    @property
    def rows(self) -> int:
        return len(self._texts)

    @property
    def text(self) -> bytes:
        return b"\n".join(self._texts)

    def line(self, row: int) -> bytes:
        return self._texts[row]

    def lines(self, begin: int, end: int) -> list[bytes]:
        return self._texts[begin:end]


class LiveTable(ProductTable):
    """A snapshot's table with the added products behind it. `numbers`: of the products that changed, None if deleted.

    What was deleted or replaced keeps its rows, but is not found by its id.
    """

    def __init__(self, base: ProductTable, added: AddedTable, numbers: Mapping[str, int | None]) -> None:
        self._base, self._added, self._numbers = base, added, numbers
        self.starts = np.concatenate([base.starts, base.rows + added.starts[1:]])

    @property
    def rows(self) -> int:
        return self._base.rows + self._added.rows

    def line(self, row: int) -> bytes:
        return self._base.line(row) if row < self._base.rows else self._added.line(row - self._base.rows)

    def lines(self, begin: int, end: int) -> list[bytes]:
        return [self.line(row) for row in range(begin, end)]

    def find(self, product_id: str) -> int | None:
        return self._numbers[product_id] if product_id in self._numbers else self._base.find(product_id)


class LiveColumns(Columns):
    """A snapshot's columns with the attributes of added rows behind. Columns that only those have are not known."""

    def __init__(self, base: Columns, added: Sequence[Mapping[str, str]]) -> None:
        self._base, self._added = base, added
        self.names = base.names
        self._keep()

    def _column(self, name: str) -> Column:
        base = self._base.column(name)
        numbers = {value: number for number, value in enumerate(base.values)}
        behind = [numbers.setdefault(row.get(name, ""), len(numbers)) for row in self._added]
        return Column(name, list(numbers), np.concatenate([base.codes, np.array(behind, np.int32)]))


class LiveStore:
    """A snapshot's store with the vectors of added products `(n, d)` behind it; `hidden` rows are never found, and are
    not in its `count`."""

    def __init__(self, base: VectorStore, added: Vectors, hidden: NDArray[np.bool_]) -> None:
        self._base, self.added, self.shown = base, added, ~hidden
        self._count = int(np.count_nonzero(self.shown))

    @property
    def count(self) -> int:
        return self._count

    @property
    def dimension(self) -> int:
        return self._base.dimension

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        shown = self.shown if allowed is None else allowed & self.shown
        count = self._base.count
        if allowed is None:
            scores, rows = self._shown(queries, k)
        elif before := int(np.count_nonzero(shown[:count])):
            scores, rows = self._base.search(queries, min(k, before), shown[:count])
        else:
            scores, rows = queries[:, :0], np.zeros((len(queries), 0), np.int64)
        behind = np.arange(count, len(shown))
        own = np.where(shown[behind], queries @ self.added.T, -np.inf)
        scores = np.concatenate([scores, own], axis=1, dtype=np.float32)
        rows = np.concatenate([rows, np.broadcast_to(behind, own.shape)], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def _shown(self, queries: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """What the snapshot finds, hidden rows last: few are, so to look further costs less than to leave them out."""
        fetch = min(self._base.count, 2 * k + 64)
        while True:
            scores, rows = self._base.search(queries, fetch)
            scores = np.where(self.shown[rows], scores, -np.inf)
            if fetch == self._base.count or (np.isfinite(scores).sum(axis=1) >= k).all():
                return scores, rows
            fetch = min(self._base.count, 4 * fetch)

    def vectors(self, start: int, stop: int) -> Vectors:
        """Of rows of one product, which lie all in the snapshot or all behind it."""
        count = self._base.count
        return self._base.vectors(start, stop) if start < count else self.added[start - count : stop - count]


class LiveListing(Listing):
    """A snapshot's listing without the products that are `gone` `(products,)`, and with the added ones behind.

    Its columns are the snapshot's: they are counted at the next index run.
    """

    def __init__(self, base: Snapshot, added: AddedTable, gone: NDArray[np.bool_]) -> None:
        self._base, self._added, self._gone = base, Listing(added), gone

    def all(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self._gone)

    def find(self, text: str) -> NDArray[np.int64]:
        found = self._base.listing.find(text)
        return np.concatenate([found[~self._gone[found]], self._base.products.count + self._added.find(text)])

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self._base.listing.attributes

    @property
    def origins(self) -> Sequence[str]:
        return sorted({*self._base.listing.origins, *self._added.origins})


@dataclass(frozen=True, slots=True)
class Overlay:
    """Changes laid over the snapshot `base`.

    `gone`, `hidden` `(products,)`: which products are no longer there, and which are never answers; `waiting`: change
    and place of images that this snapshot's network has still to embed, until when their products stay as they were;
    `places`: the number in the snapshot of each product that was changed or is unavailable.
    """

    base: Snapshot
    clock: Clock
    unavailable: frozenset[str]
    pins: Mapping[str, Pins]
    added: Sequence[Added]
    waiting: Sequence[tuple[int, int]]
    places: Mapping[str, int | None]
    products: LiveTable
    store: LiveStore
    listing: LiveListing
    gone: NDArray[np.bool_]
    hidden: NDArray[np.bool_]

    @property
    def version(self) -> str:
        """Another one for everything that may change an answer; the same in every process."""
        return f"{self.clock.seq}.{len(self.waiting)}" if self.waiting else str(self.clock.seq)

    def pinned(self, product_id: str, product: int) -> tuple[NDArray[np.int64], Vectors, set[int]]:
        """The rows and scores of what answers to a product begin with, and the numbers of what else is none of them."""
        first: dict[int, tuple[int, float]] = {}
        pins = self.pins.get(product_id)
        blocked = (
            {number for name in pins.blocked if (number := self.products.find(name)) is not None} if pins else set()
        )
        for number in map(self.products.find, pins.pinned if pins else ()):
            if number is not None and number != product and number not in blocked and not self.hidden[number]:
                images = self.products.images(number)
                theirs = self.store.vectors(images.start, images.stop)
                scores = (asking(self.products, self.store, product) @ theirs.T)[0].round(DIGITS)
                first[number] = images[int(scores.argmax())], float(scores.max())
        rows = np.array([row for row, _ in first.values()], np.int64)
        return rows, np.array([score for _, score in first.values()], np.float32), blocked | first.keys()

    def columns(self) -> LiveColumns:
        """The columns of all rows."""
        behind = range(self.base.products.rows, self.products.rows)
        return LiveColumns(self.base.columns, [self.products.image(row).attributes for row in behind])

    def near(self, product: int, without: Collection[int]) -> tuple[NDArray[np.int64], Vectors, Vectors, bool]:
        """The best rows of the products nearest to one, best first, their scores, twice, as far down as the snapshot's
        table of neighbours is sure of them; and whether those are all there are."""
        table, products = self.base.neighbours, self.base.products
        if product >= products.count:
            return np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32), False
        whole = table.rows.shape[1] == products.count - 1
        rows, scores = table.rows[product].astype(np.int64), table.scores[product]
        if self.added:
            # What the table does not hold scores at most this, and stands before what was added.
            floor = -np.inf if whole else scores[-1]
            own = (asking(self.products, self.store, product) @ self.store.added.T)[0].round(DIGITS)
            sure = np.flatnonzero(own > floor)
            own, added = best_of_each(own[sure], products.rows + sure, self.products.owners(products.rows + sure))
            rows, scores = np.concatenate([rows, added]), np.concatenate([scores, own])
            order = np.lexsort((rows, -scores))
            rows, scores = rows[order], scores[order]
        owners = self.products.owners(rows)
        shown = ~self.hidden[owners]
        if without:
            shown &= np.isin(owners, list(without), invert=True)
        return rows[shown], scores[shown], scores[shown], whole


def as_changed(data: Path, snapshot: Snapshot) -> Snapshot:
    """A snapshot as it was changed live by now. Raises `NotKept`."""
    with Journal(data, snapshot.manifest.partition).reading() as reading:
        overlay = lay(snapshot, reading)
    return snapshot.under(overlay) if overlay else snapshot


def lay(base: Snapshot, reading: Reading, before: Overlay | None = None) -> Overlay | None:
    """What the journal changes in this snapshot; None where it changes nothing.

    What is in `before` already is not read again. Raises `sqlite3.Error`.
    """
    clock = reading.clock()
    if before and (before.base is not base or before.clock.journal != clock.journal):
        before = None
    same = before and before.clock.availability == clock.availability
    unavailable = before.unavailable if before and same else reading.unavailable()
    pins = before.pins if before and before.clock.pins == clock.pins else reading.pins()
    changes = reading.changes(folded(base.manifest, clock.journal))
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
        numbers[change.product_id] = base.products.count + len(added) if put and put.lines else None
        if put and put.lines:
            added.append(put)
    found = before.places if before else {}
    names = unavailable | numbers.keys()
    places = {name: found[name] if name in found else base.products.find(name) for name in names}
    behind = AddedTable(added)
    table = LiveTable(base.products, behind, numbers)
    gone = np.zeros(table.count, bool)
    gone[[place for name in numbers if (place := places[name]) is not None]] = True
    hidden = gone.copy()
    sold_out = (numbers[name] if name in numbers else places[name] for name in unavailable)
    hidden[[number for number in sold_out if number is not None]] = True
    vectors = np.concatenate([np.zeros((0, base.store.dimension), np.float32), *(put.vectors for put in added)])
    store = LiveStore(base.store, vectors, np.repeat(hidden, np.diff(table.starts)))
    listing = LiveListing(base, behind, gone)
    return Overlay(base, clock, unavailable, pins, added, waiting, places, table, store, listing, gone, hidden)


def folded(manifest: Manifest, journal: str) -> int:
    """The last change of products that this snapshot was indexed with; 0 where it is none of this journal."""
    live = manifest.catalog.get("live", {})
    return int(live["seq"]) if live.get("journal") == journal else 0


def catalog_vectors(snapshot: Snapshot, raw: Vectors) -> Vectors:
    """Raw vectors of the images of one product `(n, d)` -> unit vectors `(n, k)`, as an index run would place them; a
    row that has no direction becomes all NaN."""
    if snapshot.projection is None:
        return normalise(raw[:, : snapshot.spec.plain_dimension])
    rows = snapshot.projection.images(raw)
    if not snapshot.manifest.quality.get("learned", {}).get("parts", {}).get("pull"):
        return rows
    return pulled(rows, np.nan_to_num(normalise(rows.sum(axis=0, keepdims=True))))


def _added(base: Snapshot, reading: Reading, change: Change) -> Added | list[tuple[int, int]]:
    """The product that was put, or change and place of those of its images that have no vector yet."""
    images = reading.addresses(change.seq)
    raw = reading.vectors(change.seq, base.spec.fingerprint)
    if missing := [(change.seq, place) for place in range(len(images)) if place not in raw]:
        return missing
    vectors = catalog_vectors(base, np.stack([raw[place] for place in range(len(images))]))
    good = usable(vectors)
    lines = tuple(
        line_of(ProductImage(change.product_id, image_id, address, change.attributes or {}))
        for (image_id, address), fine in zip(images, good, strict=True)
        if fine
    )
    return Added(change.product_id, change.seq, lines, vectors[good])
