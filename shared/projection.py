"""The metric that a catalog teaches: a linear map from a network's raw vectors to the space that is searched.

Both sides are square-rooted first (Arandjelović and Zisserman, "RootSIFT", CVPR 2012), then centred on the mean of
their own kind, packshots or photos, then multiplied by one matrix. `indexer/learning.py` fits it; a snapshot holds it:

    projection.means.npy   float32 (2, d): of catalog images, of photos
    projection.matrix.npy  float32 (d, k)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.errors import SnapshotError
from shared.products import read_array, write_array
from shared.vectors import Vectors, normalise


def rooted(raw: Vectors) -> Vectors:
    """`(n, d)` -> unit vectors of the signed square roots, so that a few strong values do not decide alone."""
    return normalise(np.sign(raw) * np.sqrt(np.abs(raw)))


@dataclass(frozen=True, slots=True)
class Projection:
    """`means` `(2, d)` and `matrix` `(d, k)`, as above."""

    means: Vectors
    matrix: Vectors

    def catalog(self, raw: Vectors) -> Vectors:
        """Raw vectors of catalog images `(n, d)` -> unit vectors `(n, k)`."""
        return normalise((rooted(raw) - self.means[0]) @ self.matrix)

    def photo(self, raw: Vectors) -> Vectors:
        """Raw vectors of several views of one photo `(views, d)` -> one unit vector `(1, k)`."""
        mean = normalise(rooted(raw).mean(axis=0, keepdims=True))
        return normalise((mean - self.means[1]) @ self.matrix)

    def write(self, folder: Path) -> None:
        """Write the two files."""
        write_array(folder / "projection.means.npy", self.means)
        write_array(folder / "projection.matrix.npy", self.matrix)

    @classmethod
    def open(cls, folder: Path) -> "Projection | None":
        """The projection of a snapshot, or None where it was indexed without. Raises `SnapshotError`."""
        if not (folder / "projection.means.npy").exists():
            return None
        means = read_array(folder / "projection.means.npy", np.float32, 2)
        matrix = read_array(folder / "projection.matrix.npy", np.float32, 2)
        if means.shape != (2, len(matrix)):
            raise SnapshotError(f"The projection files in {folder} do not belong together.")
        return cls(means, matrix)
