"""What a picture looks like in few numbers, measured when it is decoded, and how far two pictures are apart by them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images import Picture

_Pixels: TypeAlias = NDArray[np.float64]

_SIDE, _MARGIN, _SCANNED = 32, 4, 256
_STEPS = (1.6, 0.8, 0.4)
# Unlike by more than this before any edge is moved, pictures are not the same; it spares most pairs the moving.
_FAR = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """`width` and `height` in pixels, as decoded. `contrast`, 0 to 255: how far the pixels are from their median
    colour, but for the furthest 0.1 %; so a small thing on white has much, and a blank none. `thumbnail`: RGB bytes
    `(32, 32, 3)`."""

    width: int
    height: int
    contrast: int
    thumbnail: bytes


def look(picture: Picture) -> Look:
    """Measure a picture."""
    image = Image.fromarray(picture)
    thumbnail = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()
    image.thumbnail((_SCANNED, _SCANNED), Image.Resampling.BOX)
    pixels = np.asarray(image).reshape(-1, 3).astype(np.int16)
    away = np.abs(pixels - np.median(pixels, axis=0)).max(axis=1)
    return Look(picture.shape[1], picture.shape[0], int(np.quantile(away, 0.999)), thumbnail)


def difference(one: Look, other: Look) -> float:
    """How much two pictures differ where they differ most, 0 to 255: the greatest difference of colour among 8 x 8
    parts, once one is laid over the other. So it stays small for another size, encoding or trim of one picture, and not
    for another colour or print of one thing.
    """
    first, second = _pixels(one), _pixels(other)
    if (apart := _greatest(first - second, 8)) >= _FAR:
        return apart
    return min(_laid_over(first, second), _laid_over(second, first))


def _laid_over(wanted: _Pixels, other: _Pixels) -> float:
    """The difference once the other's edges are moved, one by one, by up to an eighth, while that makes it less."""
    wide = Image.fromarray(np.pad(other, ((_MARGIN,), (_MARGIN,), (0,)), "edge").astype(np.uint8))
    frame = np.array([_MARGIN, _MARGIN, _MARGIN + _SIDE, _MARGIN + _SIDE])
    wanted, laid, shift = _soft(wanted), _soft(other), np.zeros(4)
    for step, edge in ((sign * step, edge) for step in _STEPS for edge in range(4) for sign in (-1, 1)):
        while True:
            moved = shift + step * (np.arange(4) == edge)
            if abs(moved[edge]) > _MARGIN:
                break
            box = tuple((frame + moved).tolist())
            view = wide.transform((_SIDE, _SIDE), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
            trial = _soft(np.asarray(view, np.float64))
            if np.abs(wanted - trial).mean() >= np.abs(wanted - laid).mean():
                break
            shift, laid = moved, trial
    return _greatest(wanted - laid, 4)


def _pixels(seen: Look) -> _Pixels:
    return np.frombuffer(seen.thumbnail, np.uint8).reshape(_SIDE, _SIDE, 3).astype(np.float64)


def _greatest(apart: _Pixels, edge: int) -> float:
    """The greatest mean of any square of that many pixels."""
    parts = _SIDE // edge
    return float(np.abs(apart.reshape(parts, edge, parts, edge, 3).mean(axis=(1, 3))).max())


def _soft(pixels: _Pixels) -> _Pixels:
    """Blurred by (1, 2, 1) / 4 along both sides, so that half a pixel's shift is no difference."""
    wide = np.pad(pixels, ((1,), (1,), (0,)), "edge")
    tall = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    soft: _Pixels = (tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]) / 4
    return soft
