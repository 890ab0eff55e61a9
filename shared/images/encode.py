"""Encode pictures as JPEG files."""

import io

from PIL import Image

from shared.images.decode import Picture, decode
from shared.refusals import Refusal

_THUMBNAIL_QUALITY = 88


def jpeg(picture: Picture | Image.Image, quality: int) -> bytes:
    """Encode a picture as a JPEG file. `quality` is Pillow's, 1 to 95."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def thumbnail(data: bytes, edge: int) -> bytes | Refusal:
    """Make a JPEG of an image file whose longer edge has at most `edge` pixels, or say why it cannot be decoded."""
    picture = decode(data, edge=edge)
    if isinstance(picture, Refusal):
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((edge, edge))
    return jpeg(image, _THUMBNAIL_QUALITY)
