"""Find where things may be in a photo: windows around what differs from the ground that they lie on.

The ground is what the photo's rim shows: a few colours and textures (k-means). What is far from all of them, in one
piece, is a thing. No network is needed: a window costs nothing until it is embedded.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images.crop import Crop
from shared.images.decode import Picture

# The quarters of a photo, and those between them: where things touch each other, no ground tells them apart.
QUARTERS = tuple(Crop(x, y, 0.5, 0.5) for y in (0.0, 0.25, 0.5) for x in (0.0, 0.25, 0.5))

_EDGE, _FINE = 64, 4  # cells of the longer edge; pixels of a cell's edge, by which its texture is told
_RIM, _GROUNDS, _ROUNDS, _COMMON = 0.06, 4, 8, 0.06
_TEXTURE = 2.0  # times a colour
# Of drawn photos on plain grounds 9 of 10 pass, of photos of groceries in shops 1 in 37.
_ON_RIM, _FEW, _IN_FEW = 0.08, 3, 0.9  # of the rim, and pieces that hold that share of what is apart
_LEAST, _LARGEST = 0.004, 0.7  # of the photo's area
_STEPS = 10_000
_MARGIN = 0.08  # of the thing's size, at each side


def windows(photo: Picture, most: int) -> list[Crop]:
    """The windows around at most so many things, the largest first. None for what fills the photo, or is tiny; none at
    all where no plain ground shows, as on a shelf: there the windows are as many as the things, and mislead."""
    cells = _cells(photo)
    height, width = cells.shape[:2]
    apart, rim = _apart(cells), _rim(height, width)
    pieces = sorted(_pieces(apart), reverse=True)
    counts = [piece[0] for piece in pieces]
    if apart[rim].mean() > _ON_RIM or sum(counts[:_FEW]) < _IN_FEW * sum(counts):
        return []
    found = []
    for count, left, top, right, bottom in pieces:
        area = (right - left) * (bottom - top) / (width * height)
        if count >= _LEAST * width * height and area <= _LARGEST:
            across, down = _MARGIN * (right - left), _MARGIN * (bottom - top)
            x, wide = _within(left - across, right + across, width)
            y, high = _within(top - down, bottom + down, height)
            found.append(Crop(x, y, wide, high))
    return found[:most]


def _within(start: float, end: float, size: int) -> tuple[float, float]:
    """Start and length of a window as shares of the size: whole ten thousandths, so that they can be written down."""
    first = math.ceil(max(0.0, start) / size * _STEPS)
    return first / _STEPS, (math.floor(min(size, end) / size * _STEPS) - first) / _STEPS


def shared_part(one: Crop, other: Crop) -> float:
    """The part of the smaller of two windows that lies in the other."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(0.0, across) * max(0.0, down) / min(one.width * one.height, other.width * other.height)


def _cells(photo: Picture) -> NDArray[np.float32]:
    """The colour and texture of each cell of a photo: `(rows, columns, 4)`."""
    image = Image.fromarray(photo)
    width, height = (max(8, round(edge * _EDGE / max(image.size))) for edge in image.size)
    rgb = np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    red, green, blue = np.moveaxis(np.sqrt(rgb), 2, 0)
    grey = image.convert("L").resize((width * _FINE, height * _FINE), Image.Resampling.BOX)
    fine = np.asarray(grey, np.float32).reshape(height, _FINE, width, _FINE) / 255
    texture = _TEXTURE * fine.std(axis=(1, 3))
    return np.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue, texture], axis=2)


def _apart(cells: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The cells `(rows, columns)` that are unlike all grounds."""
    height, width = cells.shape[:2]
    ground = cells[_rim(height, width)]
    kinds = ground[np.random.default_rng(0).choice(len(ground), _GROUNDS, replace=False)]
    nearest = np.zeros(len(ground), np.int64)
    for _ in range(_ROUNDS):
        nearest = _distances(ground, kinds).argmin(axis=1)
        kinds = np.stack(
            [ground[nearest == k].mean(axis=0) if (nearest == k).any() else kinds[k] for k in range(_GROUNDS)]
        )
    # A thing may reach the rim, too: what little of the rim shows is no ground.
    kinds = kinds[np.bincount(nearest, minlength=_GROUNDS) > _COMMON * len(ground)]
    far = _distances(cells.reshape(-1, cells.shape[2]), kinds).min(axis=1)
    return np.asarray(far > _between(np.minimum(far, np.quantile(far, 0.99)))).reshape(height, width)


def _rim(height: int, width: int) -> NDArray[np.bool_]:
    """The cells `(height, width)` along the edges."""
    deep = max(1, round(_RIM * min(height, width)))
    rim = np.ones((height, width), bool)
    rim[deep:-deep, deep:-deep] = False
    return rim


def _distances(points: NDArray[np.float32], kinds: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.linalg.norm(points[:, None] - kinds[None], axis=2), np.float32)


def _between(values: NDArray[np.float32]) -> float:
    """The value that parts the high ones from the low ones best (Otsu, IEEE Trans. SMC 9(1), 1979)."""
    counts, edges = np.histogram(values, 64)
    shares, middles = counts / counts.sum(), (edges[1:] + edges[:-1]) / 2
    below, mean = np.cumsum(shares), np.cumsum(shares * middles)
    variance = (mean[-1] * below - mean) ** 2 / (below * (1 - below) + 1e-9)
    return float(middles[variance[:-1].argmax()])


def _pieces(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int, int]]:
    """The connected pieces of a mask, diagonals too: cells, left, top, right, bottom."""
    left_over, found = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True)), []
    while left_over:
        waiting = [left_over.pop()]
        piece = []
        while waiting:
            y, x = waiting.pop()
            piece.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left_over
            left_over -= near
            waiting += near
        rows, columns = zip(*piece, strict=True)
        found.append((len(piece), min(columns), min(rows), max(columns) + 1, max(rows) + 1))
    return found
