"""Prepare a picture as a network takes it: on a white square, or as several views of a photo."""

import math

import numpy as np
from PIL import Image

from shared.images.decode import Picture

BICUBIC = int(Image.Resampling.BICUBIC)


# As `views` gives them: the first ones tell most.
VIEWS = ("whole", "middle 60 %", "mirrored", "middle 80 %")


def square(picture: Picture, size: int, resample: int = BICUBIC) -> Picture:
    """Put the picture on a white square of `size` pixels, whole, its sides in proportion: `uint8 (size, size, 3)`."""
    image = Image.fromarray(picture)
    if image.width != image.height:
        edge = max(image.size)
        canvas = Image.new("RGB", (edge, edge), "white")
        canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
        image = canvas
    return np.asarray(image.resize((size, size), Image.Resampling(resample)))


def views(picture: Picture, size: int, count: int = len(VIEWS), resample: int = BICUBIC) -> Picture:
    """Make the first `count` of `VIEWS` of a photo, which its product may fill or not.

    Returns `uint8 (count, size, size, 3)`.
    """
    seen = [square(picture, size, resample)]
    if count > 1:
        seen.append(square(_middle(picture, 0.6), size, resample))
    if count > 2:
        seen += [seen[0][:, ::-1], square(_middle(picture, 0.8), size, resample)]
    return np.stack(seen[:count])


def views_edge(size: int, count: int) -> int:
    """The pixels of a photo's longer edge that so many `views` of that size need."""
    return math.ceil(size / 0.6) if count > 1 else size


def _middle(picture: Picture, share: float) -> Picture:
    height, width = (max(1, int(edge * share)) for edge in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
