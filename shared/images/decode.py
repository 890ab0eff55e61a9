"""Decode bytes into a picture: the only decoder, the same for catalog images and users' photos, with every limit.

A picture is `uint8 (height, width, 3)`: RGB, upright, on white, its longer edge at most `MAX_EDGE` pixels. Who asks for
it says how many pixels of that edge are needed: decoding fewer is what makes it quick.
Limits follow from measurements on thousands of hostile files: formats are admitted one by one by their magic bytes
(Pillow's default opening runs Ghostscript, among others), and the pixel count is read from the header before anything
is decoded.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from shared.images.crop import Box, Crop
from shared.images.memory import MOST_AT_ONCE, MemoryBudget, is_halved, memory_needed
from shared.refusals import Kind, Refusal
from shared.timing import stage

Picture: TypeAlias = NDArray[np.uint8]

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_EDGE = 1024
MAX_MEMORY = 100_000_000  # of a photo
_WHOLE = 1 << 20  # no picture has so long an edge, so none is shrunk when it is decoded
_JPEG = ("JPEG", "MPO")  # several JPEGs in one file, whose first is shown
_STRIP = 1 << 17  # pixels
_BUDGET = MemoryBudget(MOST_AT_ONCE)

# How what EXIF calls 1 to 8 is set upright.
_TURNS = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# Odd metadata makes Pillow warn about pictures that decode well.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = "JPEG, PNG, WebP, GIF, BMP" + (" or AVIF" if features.check("avif") else "")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture, and the pixels that the whole of it has in its file, upright."""

    picture: Picture
    width: int
    height: int


def decode(data: bytes, crop: Crop | None = None, edge: int = MAX_EDGE) -> Picture | Refusal:
    """Decode an image file, or that part of it, and leave out its size: see `decode_sized`."""
    found = decode_sized(data, crop, edge)
    return found if isinstance(found, Refusal) else found.picture


@stage("decode")
def decode_sized(
    data: bytes, crop: Crop | None = None, edge: int = MAX_EDGE, memory: int = MAX_MEMORY
) -> Decoded | Refusal:
    """Decode an image file, or that part of it. The longer edge of the result keeps at least `edge` pixels, if it has
    them, up to `MAX_EDGE`; it keeps more if that is cheaper. A picture that takes more than `memory` bytes is refused;
    others wait until these are free.

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
            needed = memory_needed(image, part=crop is not None, lossless=edge == _WHOLE)
            if needed > memory:
                return _too_heavy(image, needed, memory)
            with _BUDGET.held(needed):
                return _decoded(image, crop, edge)
    except Image.DecompressionBombError:
        return Refusal(Kind.TOO_MANY_PIXELS, f"The image has far more pixels than the limit of {MAX_PIXELS:,}.")
    except Exception as error:
        if formats == ("JPEG",) and edge < _WHOLE:  # a lossless JPEG cannot be decoded to less than its size
            return decode_sized(data, crop, _WHOLE, memory)
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and more for bad bytes.
        if isinstance(error, UnidentifiedImageError):
            return Refusal(
                Kind.BAD_IMAGE, f"The image cannot be decoded: it is damaged, or an unknown sort of {formats[0]}."
            )
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        return Refusal(Kind.BAD_IMAGE, f"The image cannot be decoded: {reason}.")


def _too_heavy(image: Image.Image, needed: int, memory: int) -> Refusal:
    size = f"The image is {image.width} x {image.height} pixels"
    detail = f"{size}; as {image.format} that takes {needed // 10**6} MB to decode, and the limit is {memory // 10**6}."
    return Refusal(Kind.TOO_MANY_PIXELS, f"{detail} Send it smaller, or as a baseline JPEG.")


def _decoded(image: Image.Image, crop: Crop | None, edge: int) -> Decoded | Refusal:
    """Decode an opened image. Raises what Pillow raises."""
    if image.format not in _JPEG:
        image.load()  # nothing more is known of the others, such as their orientation, before
    turned = _orientation(image)
    width, height = image.size if turned < 5 else image.size[::-1]
    box = crop.box(width, height) if crop else (0, 0, width, height)
    if isinstance(box, Refusal):
        return box
    stored = _loaded_part(image, _stored(box, width, height, turned), edge)
    return Decoded(np.asarray(_upright(_shrunk(image, stored, edge), turned)), width, height)


def _sniff(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats that these bytes may be, by their first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return ("JPEG",)
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


def _orientation(image: Image.Image) -> int:
    """Orientation of the stored picture, as EXIF tells it: 1 (upright) to 8; from 5 on its rows are columns."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return found if found in _TURNS else 1


def _stored(box: Box, width: int, height: int, turned: int) -> Box:
    """The box of a part of the upright picture, which has that size, in the picture as it is stored."""
    left, top, right, bottom = box
    if turned in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turned in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if turned < 5 else (top, left, bottom, right)


def _loaded_part(image: Image.Image, box: Box, edge: int) -> Box:
    """Decode the picture, and return that part of it in what was decoded. Only JPEG is decoded straight to 1/2, 1/4 or
    1/8 of its size, the smallest that leaves the part's longer edge as long as `edge`, and that takes not too much
    memory."""
    width, height = image.size
    longer = max(box[2] - box[0], box[3] - box[1])
    least = 2 if image.format in _JPEG and is_halved(image) else 1
    wanted = min(width * edge // longer, width // least), min(height * edge // longer, height // least)
    image.draft("RGB", (max(1, wanted[0]), max(1, wanted[1])))
    image.load()
    across, down = image.width / width, image.height / height
    left, top = int(box[0] * across), int(box[1] * down)
    return left, top, max(left + 1, round(box[2] * across)), max(top + 1, round(box[3] * down))


def _shrunk(image: Image.Image, box: Box, edge: int) -> Image.Image:
    """The part of the picture, RGB on white, shrunk by a whole divisor, which is cheap, but to half as many pixels
    again as `edge`: the mean of whole blocks is a poor filter, and the network sees it. At most `MAX_EDGE` long.

    It goes strip by strip, so that no second picture of that size is made.
    """
    left, top, right, bottom = box
    divisor = max(1, 2 * max(right - left, bottom - top) // (3 * edge))
    rows = max(1, _STRIP // (right - left) // divisor) * divisor
    if box == (0, 0, *image.size) and image.height <= rows:
        small = _rgb(image).reduce(divisor)
    else:
        size = -((left - right) // divisor), -((top - bottom) // divisor)
        small = Image.new("RGB", size)
        for y in range(top, bottom, rows):
            strip = _rgb(image.crop((left, y, right, min(y + rows, bottom))))
            small.paste(strip.reduce(divisor), (0, (y - top) // divisor))
    image.close()  # frees its pixels
    if max(small.size) > MAX_EDGE:
        small.thumbnail((MAX_EDGE, MAX_EDGE), reducing_gap=None)
    return small


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, on white. Pillow clips 16-bit grey when it converts, so it is scaled first."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    return _on_white(image)


def _upright(image: Image.Image, turned: int) -> Image.Image:
    turn = _TURNS[turned]
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, "white")
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")
