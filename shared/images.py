"""Bytes -> picture: the only decoder, the same for catalog images and users' photos, with every limit.

A picture is `uint8 (height, width, 3)`: RGB, upright, on white, its longer edge at most `MAX_EDGE` pixels.
Limits follow from measurements on thousands of hostile files: formats are admitted one by one by their magic bytes
(Pillow's default opening runs Ghostscript, among others), and the pixel count is read from the header before anything
is decoded.
"""

import io
import re
import warnings
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from shared.errors import BadQuestion
from shared.refusals import Kind, Refusal
from shared.stages import stage

Picture: TypeAlias = NDArray[np.uint8]

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_EDGE = 1024
# As `views` gives them: the first ones tell most.
VIEWS = ("whole", "middle 60 %", "mirrored", "middle 80 %")
_NUMBER = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")

# Odd metadata makes Pillow warn about pictures that decode well.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = "JPEG, PNG, WebP, GIF, BMP" + (" or AVIF" if features.check("avif") else "")


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the upright picture: its left, top, width and height, in fractions of it where all are at most 1, else
    in pixels."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Read `x,y,w,h`. Raises `BadQuestion`."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
            raise BadQuestion(f"crop is {text!r:.80}; it must be x,y,w,h: four numbers, fractions or pixels.")
        crop = cls(*map(float, parts))
        if min(crop.width, crop.height) <= 0:
            raise BadQuestion(f"crop is {text!r:.80}; its width and height must be more than 0.")
        return crop

    def box(self, width: int, height: int) -> tuple[int, int, int, int] | Refusal:
        """Left, top, right and bottom in pixels of a picture of that size, at least a pixel apart."""
        fractions = max(self.x, self.y, self.width, self.height) <= 1
        across, down = (width, height) if fractions else (1, 1)
        left, top = int(self.x * across), int(self.y * down)
        right, bottom = round((self.x + self.width) * across), round((self.y + self.height) * down)
        if right > width or bottom > height or left >= width or top >= height:
            asked = f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"
            return Refusal(
                Kind.BAD_CROP, f"crop is {asked}, which is not within the picture of {width} x {height} pixels."
            )
        return left, top, max(right, left + 1), max(bottom, top + 1)


@stage("decode")
def decode(data: bytes, crop: Crop | None = None) -> Picture | Refusal:
    """Decode an image file, or that part of it.

    Returns the picture, or a `Refusal` of kind `empty`, `too_large`, `unsupported_format`, `too_many_pixels`,
    `bad_image` or `bad_crop`. Never raises for bad bytes.
    """
    if not data:
        return Refusal(Kind.EMPTY, "The image is empty: 0 bytes.")
    if len(data) > MAX_BYTES:
        return Refusal(Kind.TOO_LARGE, f"The image has {len(data):,} bytes; the limit is {MAX_BYTES:,}.")
    formats = _sniff(data)
    if not formats:
        return Refusal(Kind.UNSUPPORTED_FORMAT, f"The bytes are not those of a {FORMATS} image.")
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                return Refusal(Kind.TOO_MANY_PIXELS, f"The image is {size} pixels; the limit is {MAX_PIXELS:,} in all.")
            if crop:
                upright = _upright(_eight_bit(image))
                box = crop.box(*upright.size)
                if isinstance(box, Refusal):
                    return box
                return np.array(_on_white(_shrunk(upright.crop(box))))
            # JPEG alone can decode straight to 1/2, 1/4 or 1/8 of its size.
            image.draft("RGB", (MAX_EDGE, MAX_EDGE))
            image.load()
            return np.array(_on_white(_upright(_shrunk(_eight_bit(image)))))
    except Image.DecompressionBombError:
        return Refusal(Kind.TOO_MANY_PIXELS, f"The image has far more pixels than the limit of {MAX_PIXELS:,}.")
    except Exception as error:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and more for bad bytes.
        return Refusal(Kind.BAD_IMAGE, f"The image cannot be decoded: {type(error).__name__}: {str(error)[:200]}")


def square(picture: Picture, size: int) -> Picture:
    """The picture on a white square of `size` pixels, whole, its sides in proportion: `uint8 (size, size, 3)`."""
    image = Image.fromarray(picture)
    if image.width != image.height:
        edge = max(image.size)
        canvas = Image.new("RGB", (edge, edge), "white")
        canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
        image = canvas
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def views(picture: Picture, size: int, count: int = len(VIEWS)) -> Picture:
    """A photo seen several ways, as its product may fill it or not: the first `count` of `VIEWS`.

    Returns `uint8 (count, size, size, 3)`.
    """
    seen = [square(picture, size)]
    if count > 1:
        seen.append(square(_middle(picture, 0.6), size))
    if count > 2:
        seen += [seen[0][:, ::-1], square(_middle(picture, 0.8), size)]
    return np.stack(seen[:count])


def _middle(picture: Picture, share: float) -> Picture:
    height, width = (max(1, int(edge * share)) for edge in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _sniff(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats that these bytes may be, by their first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return ("JPEG", "MPO")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ("PNG",)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ("GIF",)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ("WEBP",)
    if data.startswith(b"BM"):
        return ("BMP",)
    if data[4:8] == b"ftyp" and b"avi" in data[8:32] and features.check("avif"):
        return ("AVIF",)
    return ()


def _eight_bit(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey when it converts, so scale it first."""
    if not image.mode.startswith("I"):
        return image
    scaled = Image.fromarray((np.asarray(image, dtype=np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    scaled.info = {"exif": image.info.get("exif", b"")}
    return scaled


def _shrunk(image: Image.Image) -> Image.Image:
    if max(image.size) <= MAX_EDGE:
        return image
    if image.mode not in ("RGB", "L", "RGBA", "CMYK"):  # palettes and bits cannot be averaged as they are
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    scale = MAX_EDGE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, "white")
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")
