"""The memory that decoding takes: an estimate for each picture, and a budget for all of a process.

Bytes for each pixel were measured with Pillow 12 on pictures of 25 megapixels. WebP and AVIF are decoded by libraries
that keep several whole pictures; a progressive JPEG keeps the coefficients of all of its pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from PIL import Image

MOST_AT_ONCE = 400_000_000
_MOST_WHOLE = 80_000_000  # a larger JPEG is decoded to half of its size, even where a small part of it is wanted
_REDUCED = 17_000_000  # a JPEG that is decoded to the size that is needed
_OF_A_PIXEL = {"WEBP": 14, "AVIF": 11}
_OF_A_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
_STRIPS, _SMALL = 4_000_000, 12_000_000  # parts of the picture on the way, and the smaller one that they make


def memory_needed(image: Image.Image, part: bool, lossless: bool) -> int:
    """The bytes that it takes to decode an opened image, about. `part`: of a JPEG, only a part is wanted, so it is
    decoded to more pixels; a `lossless` one always to all of them."""
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        whole = 4 * pixels if lossless or not is_halved(image) else pixels
        return _STRIPS + _coefficients(image) + (whole if part or lossless else min(whole, _REDUCED))
    each = _OF_A_PIXEL.get(image.format or "") or _OF_A_MODE.get(image.mode, 4)
    return _STRIPS + _SMALL + each * pixels


def is_halved(image: Image.Image) -> bool:
    """Tell whether a JPEG takes so much memory that it is decoded to half of its size at most."""
    return 4 * image.width * image.height + _coefficients(image) > _MOST_WHOLE


def _coefficients(image: Image.Image) -> int:
    if not image.info.get("progressive"):
        return 0
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    finest = max((across * down for _, across, down, _ in layers), default=1)
    samples = sum(across * down for _, across, down, _ in layers) / finest
    return round(2 * samples * image.width * image.height)


class MemoryBudget:
    """Bytes that may be used at once, by all threads of a process. What needs more than all of them goes alone."""

    def __init__(self, most: int) -> None:
        self._most, self._used, self._freed = most, 0, Condition()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Hold so many bytes, as soon as they are free."""
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + amount <= self._most)
            self._used += amount
        try:
            yield
        finally:
            with self._freed:
                self._used -= amount
                self._freed.notify_all()
