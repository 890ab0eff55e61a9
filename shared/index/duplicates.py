"""Products that are listed twice: pairs whose pictures are one, as an index run saw by their pixels.

duplicates.npy    int32 (pairs, 2): the numbers of both products, each pair in both orders, sorted. Absent without any.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.storage.arrays import read_array, write_array

_FILE = "duplicates.npy"


class Duplicates:
    """The pairs `(pairs, 2)`, as the file has them."""

    def __init__(self, pairs: NDArray[np.int32]) -> None:
        self._pairs = pairs

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> "Duplicates":
        """The duplicates of these pairs of product numbers."""
        both = sorted({pair for one, other in pairs for pair in ((one, other), (other, one))})
        return cls(np.array(both, np.int32).reshape(-1, 2))

    def of_product(self, product: int) -> NDArray[np.int32]:
        """The products that show the same picture as this one."""
        if not len(self._pairs):
            return self.products
        begin, end = np.searchsorted(self._pairs[:, 0], [product, product + 1])
        return self._pairs[begin:end, 1]

    @property
    def products(self) -> NDArray[np.int32]:
        """The products that have a duplicate, once for each."""
        return self._pairs[:, 0]

    def write(self, folder: Path) -> None:
        """Write the file, if there are any."""
        if len(self._pairs):
            write_array(folder / _FILE, self._pairs)

    @classmethod
    def open(cls, folder: Path, names: Collection[str], products: int) -> "Duplicates":
        """Read the file, if it is among a snapshot's files of these names. Raises `SnapshotError` if it is not of so
        many products."""
        if _FILE not in names:
            return cls.of(())
        pairs = read_array(folder / _FILE, np.int32, 2)
        if pairs.shape[1] != 2 or not len(pairs) or pairs.min() < 0 or pairs.max() >= products:
            raise SnapshotError(f"The duplicates in {folder} do not belong to its {products} products.")
        return cls(pairs)
