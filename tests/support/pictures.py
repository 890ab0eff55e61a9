"""Drawn pictures, and their vectors."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from shared.embedding.registry import load
from shared.images.decode import decode
from shared.images.views import square
from shared.vectors.unit import Vectors, normalise


def drawn(seed: int, size: tuple[int, int] = (64, 64), kind: str = "JPEG") -> bytes:
    """A picture of 4 x 4 blocks of colour, as the bytes of an image file: another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return encoded(Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST), kind, quality=95)


def encoded(picture: Image.Image | np.ndarray, kind: str = "JPEG", quality: int = 90, **options: Any) -> bytes:
    """A picture as the bytes of an image file."""
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, kind, quality=quality, **options)
    return file.getvalue()


def disc(size: int) -> bytes:
    """A red disc on white, as JPEG."""
    picture = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(picture).ellipse((size * 0.1, size * 0.1, size * 0.9, size * 0.9), fill="red")
    return encoded(picture, "JPEG")


def vectors(*seeds: int, size: tuple[int, int] = (64, 64)) -> Vectors:
    """The unit vectors of drawn pictures, by the embedder that needs no network."""
    pictures = np.stack([square(np.asarray(decode(drawn(seed, size))), 64) for seed in seeds])
    return normalise(load("colour_grid").embed(pictures))
