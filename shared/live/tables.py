"""A snapshot's table, columns, vectors and listing, each with the added products behind it.

Products that were put stand behind those of the snapshot, in the order of their changes, as they will after the next
index run. So equal scores come in the same order before and after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.index.columns import Column, Columns
from shared.index.listing import Attribute, Listing, TableListing
from shared.index.product_table import ListedTable, ProductTable
from shared.index.vector_store import VectorStore
from shared.vectors.unit import Vectors


@dataclass(frozen=True, slots=True)
class Added:
    """A product that was put: a line of JSON and a unit vector for each of its images, `(images, d)`, in either
    space."""

    product_id: str
    seq: int
    lines: tuple[bytes, ...]
    vectors: Vectors
    product_vectors: Vectors


class AddedTable(ListedTable):
    """The table of the added products alone, in memory. It is not searched by product id."""

    def __init__(self, added: Sequence[Added]) -> None:
        self._texts = [line for product in added for line in product.lines]
        self.starts = np.cumsum([0, *(len(product.lines) for product in added)], dtype=np.int32)

    @property
    def text(self) -> bytes:
        return b"\n".join(self._texts)

    def line(self, row: int) -> bytes:
        return self._texts[row]

    def lines(self, begin: int, end: int) -> list[bytes]:
        return self._texts[begin:end]

    def find(self, product_id: str) -> int | None:
        raise NotImplementedError("LiveTable knows the numbers of the added products")


class LiveTable(ProductTable):
    """A snapshot's table with the added products behind it. `numbers`: of the products that changed, None if deleted.

    What was deleted or replaced keeps its rows, but is not found by its id.
    """

    def __init__(self, base: ProductTable, added: AddedTable, numbers: Mapping[str, int | None]) -> None:
        self._base, self._added, self._numbers = base, added, numbers
        self.starts = np.concatenate([base.starts, base.rows + added.starts[1:]])

    def line(self, row: int) -> bytes:
        return self._base.line(row) if row < self._base.rows else self._added.line(row - self._base.rows)

    def find(self, product_id: str) -> int | None:
        return self._numbers[product_id] if product_id in self._numbers else self._base.find(product_id)


class LiveColumns(Columns):
    """A snapshot's columns with the attributes of added rows behind. Columns that only those have are not known."""

    def __init__(self, base: Columns, added: Sequence[Mapping[str, str]]) -> None:
        super().__init__(base.names)
        self._base, self._added = base, added

    def _column(self, name: str) -> Column:
        base = self._base.column(name)
        numbers = {value: number for number, value in enumerate(base.values)}
        behind = [numbers.setdefault(row.get(name, ""), len(numbers)) for row in self._added]
        return Column(name, list(numbers), np.concatenate([base.codes, np.array(behind, np.int32)]))


class LiveStore:
    """A snapshot's store with the vectors of added products `(images, d)` behind it. `hidden` rows are never found, and
    are not in its `count`."""

    def __init__(self, base: VectorStore, added: Sequence[Vectors], hidden: NDArray[np.bool_]) -> None:
        self._base, self.shown = base, ~hidden
        self.added = np.concatenate([np.zeros((0, base.dimension), np.float32), *added])
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
            scores, rows = self._search_shown(queries, k)
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

    def _search_shown(self, queries: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Search the snapshot, hidden rows last: there are few, so looking further costs less than leaving them out."""
        fetch = min(self._base.count, 2 * k + 64)
        while True:
            scores, rows = self._base.search(queries, fetch)
            scores = np.where(self.shown[rows], scores, -np.inf)
            if fetch == self._base.count or (np.isfinite(scores).sum(axis=1) >= k).all():
                return scores, rows
            fetch = min(self._base.count, 4 * fetch)

    def vectors(self, start: int, stop: int) -> Vectors:
        """The vectors of rows of one product, which lie all in the snapshot or all behind it."""
        count = self._base.count
        return self._base.vectors(start, stop) if start < count else self.added[start - count : stop - count]


class LiveListing:
    """A snapshot's listing without the products that are `gone` `(products,)`, and with the added ones behind.

    Its columns are the snapshot's: they are counted at the next index run.
    """

    def __init__(self, base: Listing, count: int, added: AddedTable, gone: NDArray[np.bool_]) -> None:
        self._base, self._count, self._added, self._gone = base, count, TableListing(added), gone

    def all(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self._gone)

    def find(self, text: str) -> NDArray[np.int64]:
        found = self._base.find(text)
        return np.concatenate([found[~self._gone[found]], self._count + self._added.find(text)])

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self._base.attributes

    @property
    def origins(self) -> Sequence[str]:
        return sorted({*self._base.origins, *self._added.origins})
