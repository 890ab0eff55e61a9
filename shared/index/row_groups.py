"""Row groups: the rows of an index by product. Rows of one product stand together."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RowGroups:
    """`starts` `(products + 1,)`: the first row of each product, and the number of rows."""

    starts: NDArray[np.int32]

    @classmethod
    def of(cls, product_ids: Iterable[str]) -> "RowGroups":
        """Group rows by the product id of each."""
        sizes = [sum(1 for _ in rows) for _, rows in groupby(product_ids)]
        return cls(np.cumsum([0, *sizes], dtype=np.int32))

    @property
    def count(self) -> int:
        """The number of products."""
        return len(self.starts) - 1

    @property
    def first(self) -> NDArray[np.int32]:
        """The first row of each product: `(products,)`."""
        return self.starts[:-1]

    @property
    def owners(self) -> NDArray[np.int64]:
        """The product of every row: `(rows,)`."""
        return np.repeat(np.arange(self.count), np.diff(self.starts))

    def owners_of(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """The product of each of these rows."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def rows(self, product: int) -> range:
        """The rows of a product."""
        return range(int(self.starts[product]), int(self.starts[product + 1]))
