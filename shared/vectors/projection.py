"""The metric that a catalog teaches: a linear map from a network's raw vectors to the space that is searched.

A network's vector has one part or two: its head (of a pair, both heads), and its middle (see `EmbedderSpec`). A block
of the projection maps one part: square-rooted (Arandjelovic and Zisserman, "RootSIFT", CVPR 2012), centred on the mean
of its kind, packshots or photos, multiplied by a matrix, scaled to length 1. Blocks are joined with equal weight.
`indexer/metric/fit.py` fits them. A snapshot holds, per block, named by where its part begins (and the same under
`products_projection` where products are compared with each other in another space):

    projection.0.means.npy   float32 (2, d): of catalog images, of photos
    projection.0.matrix.npy  float32 (d, k); absent where nothing is to be multiplied
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.errors import SnapshotError
from shared.storage.arrays import read_array, write_array
from shared.vectors.unit import Vectors, in_blocks, normalise

_PULL = 0.8


def rooted(raw: Vectors) -> Vectors:
    """Map `(n, d)` to unit vectors of the signed square roots, so that a few strong values do not decide alone."""
    return in_blocks(lambda rows: normalise(np.sign(rows) * np.sqrt(np.abs(rows))), raw)


@dataclass(frozen=True, slots=True)
class Block:
    """The map of one part of the raw vector, which begins at the value `start`. `means` `(2, d)`, `matrix` `(d, k)`."""

    start: int
    means: Vectors
    matrix: Vectors | None = None

    @property
    def dimension(self) -> int:
        """The number of values it gives."""
        return int((self.means if self.matrix is None else self.matrix).shape[1])

    def part(self, raw: Vectors) -> Vectors:
        """The rooted part of raw vectors `(n, d)` that this block maps."""
        return rooted(raw[:, self.start : self.start + self.means.shape[1]])

    def apply(self, part: Vectors, kind: int) -> Vectors:
        """Map rooted parts `(n, d)` of catalog images (0) or photos (1) to unit vectors `(n, k)`."""

        def mapped(rows: Vectors) -> Vectors:
            centred = rows - self.means[kind]
            return normalise(centred if self.matrix is None else centred @ self.matrix)

        return in_blocks(mapped, part)


@dataclass(frozen=True, slots=True)
class Projection:
    """One block, or two that are joined."""

    blocks: tuple[Block, ...]

    @property
    def dimension(self) -> int:
        """The number of values of the space that is searched."""
        return sum(block.dimension for block in self.blocks)

    def images(self, raw: Vectors) -> Vectors:
        """Map raw vectors of catalog images `(n, d)` to unit vectors `(n, k)`, each by itself.

        A block that photos taught is meant for photos; the indexer has better for the products that it knows.
        """
        return joined([block.apply(block.part(raw), 0) for block in self.blocks])

    def photo(self, raw: Vectors) -> Vectors:
        """Map raw vectors of several views of one photo `(views, d)` to one unit vector `(1, k)`."""
        means = [normalise(block.part(raw).mean(axis=0, keepdims=True)) for block in self.blocks]
        return joined([block.apply(mean, 1) for block, mean in zip(self.blocks, means, strict=True)])

    def write(self, folder: Path, stem: str = "projection") -> None:
        """Write the files, whose names begin with `stem`."""
        for number, block in enumerate(self.blocks):
            # Two blocks may map the same part, if not in the space of photos.
            name = f"{stem}.{block.start}" if stem == "projection" else f"{stem}.{number}.{block.start}"
            write_array(folder / f"{name}.means.npy", block.means)
            if block.matrix is not None:
                write_array(folder / f"{name}.matrix.npy", block.matrix)

    @classmethod
    def open(cls, folder: Path, names: Collection[str], stem: str = "projection") -> "Projection | None":
        """The projection among a snapshot's files of these names, or None if it was indexed without. Raises
        `SnapshotError`."""
        blocks = []
        for name in sorted(names):
            if not (name.startswith(f"{stem}.") and name.endswith(".means.npy")):
                continue
            start = name.removesuffix(".means.npy").rpartition(".")[2]
            means, of_matrix = read_array(folder / name, np.float32, 2), name.replace("means", "matrix")
            matrix = read_array(folder / of_matrix, np.float32, 2) if of_matrix in names else None
            if not start.isdecimal() or len(means) != 2 or (matrix is not None and len(matrix) != means.shape[1]):
                raise SnapshotError(f"The projection files in {folder} do not belong together.")
            blocks.append(Block(int(start), means, matrix))
        return (
            cls(tuple(blocks if stem != "projection" else sorted(blocks, key=lambda each: each.start)))
            if blocks
            else None
        )


def photo_vector(projection: Projection | None, raw: Vectors, plain: int) -> Vectors:
    """Map the raw vectors of a photo's views `(views, d)` to its unit vector `(1, k)` in the space of the catalog.

    Without a projection, that of its first `plain` values.
    """
    return projection.photo(raw) if projection else normalise(normalise(raw[:, :plain]).mean(axis=0, keepdims=True))


def pulled(rows: Vectors, means: Vectors) -> Vectors:
    """Draw each row `(n, k)` towards the mean of its product `(n, k)`."""
    return normalise((1 - _PULL) * rows + _PULL * means)


def joined(parts: list[Vectors]) -> Vectors:
    """Join unit vectors of several blocks into unit vectors, each block with equal weight."""
    return parts[0] if len(parts) == 1 else normalise(np.concatenate(parts, axis=1))
