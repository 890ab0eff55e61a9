"""Pictures: decoded, or refused with a kind and a sentence, in bounded time and memory."""

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from shared.images.crop import Crop
from shared.images.decode import MAX_EDGE, decode_sized
from shared.refusals import Refusal
from tests.support.fuzzing import damaged, fuzz, is_sentence


def encoded(kind: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    """A picture of noise, small enough that damage hits what matters."""
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert("RGB" if mode == "CMYK" else mode).convert(mode).save(file, kind, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
FRAMES = [Image.new("P", (9, 9), n) for n in range(3)]
SOUND = [
    encoded("JPEG", "RGB", (20, 12), exif=EXIF),
    encoded("JPEG", "L", (9, 30), progressive=True),
    encoded("JPEG", "CMYK", (9, 9)),
    encoded("PNG", "RGBA", (9, 7)),
    encoded("PNG", "P", (12, 9)),
    encoded("PNG", "1", (20, 9)),
    encoded("PNG", "LA", (9, 9)),
    encoded("GIF", "P", (9, 9), save_all=True, append_images=FRAMES),
    encoded("WEBP", "RGBA", (9, 9), lossless=True),
    encoded("WEBP", "RGB", (16, 16)),
    encoded("BMP", "RGB", (9, 7)),
    encoded("BMP", "P", (9, 7)),
    encoded("AVIF", "RGB", (16, 12)),
    encoded("MPO", "RGB", (9, 9), save_all=True),
]
TOKENS = [
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xc3",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"IDAT",
    b"PLTE",
    b"acTL",
    b"ANMF",
    b"VP8X",
    b"Exif\0\0",
    b"\0" * 64,
]
CROPS = st.none() | st.sampled_from(["0,0,1,1", "0.5,0.5,0.1,0.1", "1,1,3,3", "999,1,1,1"]).map(Crop.parse)


def test_a_picture_is_decoded_or_refused() -> None:
    def holds(sent: tuple[bytes, Crop | None, int]) -> None:
        found = decode_sized(*sent)
        if isinstance(found, Refusal):
            assert is_sentence(found.detail), found
            return
        assert found.picture.dtype == np.uint8
        assert found.picture.shape[2] == 3
        assert 1 <= min(found.picture.shape[:2]) <= max(found.picture.shape[:2]) <= MAX_EDGE

    fuzz(st.tuples(damaged(st.sampled_from(SOUND), TOKENS), CROPS, st.sampled_from([64, 348, 1024])), holds, 300)
