"""The mean colours of a 4 x 4 grid: a baseline without a network, whose vectors can be worked out by hand."""

from pathlib import Path

import numpy as np

from shared.embedding.embedder import EmbedderSpec
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

_CELLS, _SIZE = 4, 64


class ColourGrid:
    """An `Embedder`: each cell's mean red, green and blue, 0..1, and a constant 0.1 that keeps black usable."""

    spec = EmbedderSpec("colour_grid", _CELLS * _CELLS * 3 + 1, _SIZE, "colour-grid-1")

    def embed(self, images: Picture) -> Vectors:
        cell = _SIZE // _CELLS
        cells = images.reshape(len(images), _CELLS, cell, _CELLS, cell, 3).mean(axis=(2, 4)) / 255
        flat = cells.reshape(len(images), -1)
        return np.concatenate([flat, np.full((len(images), 1), 0.1)], axis=1).astype(np.float32)

    def files(self) -> tuple[Path, ...]:
        return ()
