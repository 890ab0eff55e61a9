import csv
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.images import decode as images
from shared.images.crop import Crop
from shared.images.decode import Decoded, Picture, decode, decode_sized
from shared.images.views import square, views, views_edge
from shared.refusals import Kind, Refusal
from tests.support.pictures import drawn, encoded
from tests.support.project import SHARED, needs_shared


def picture(data: bytes, crop: Crop | None = None, edge: int = images.MAX_EDGE) -> Picture:
    found = decode(data, crop, edge)
    assert not isinstance(found, Refusal), found
    return found


def refused(data: bytes) -> Kind:
    found = decode(data)
    assert isinstance(found, Refusal)
    return found.kind


def scene() -> Image.Image:
    """Wide, red on the left, blue on the right, so that its turns differ."""
    image = Image.new("RGB", (120, 60), (200, 30, 30))
    image.paste((30, 30, 200), (60, 0, 120, 60))
    return image


@pytest.mark.fault("I2")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_each_format_decodes(kind: str) -> None:
    found = picture(encoded(scene(), kind))
    assert found.shape == (60, 120, 3)
    assert found.dtype == np.uint8
    assert np.abs(found[30, 10].astype(int) - (200, 30, 30)).max() < 30


@pytest.mark.fault("I2")
def test_mpo_decodes_its_first_picture() -> None:
    data = encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert picture(data).shape == (60, 120, 3)


@pytest.mark.fault("I2")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    turns = Image.Transpose
    stored = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE}
    stored |= {6: turns.ROTATE_90, 7: turns.TRANSVERSE, 8: turns.ROTATE_270}
    image = scene().transpose(stored[orientation]) if orientation > 1 else scene()
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = picture(encoded(image, kind, exif=exif))
    assert np.abs(found.astype(int) - np.asarray(scene()).astype(int)).mean() < 5


@pytest.mark.fault("I2")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 20, 40))
    found = picture(encoded(image.convert(mode), "PNG"))
    assert (found[20, 30] == 255).all()
    assert not (found[20, 10] == 255).all()


@pytest.mark.fault("I2")
def test_16_bit_grey_keeps_its_tones() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(8, axis=0)
    found = picture(encoded(Image.fromarray(ramp), "PNG"))
    assert np.abs(found[4, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.fault("I2")
def test_cmyk_and_grey() -> None:
    assert np.abs(picture(encoded(scene().convert("CMYK"), "JPEG"))[30, 10].astype(int) - (200, 30, 30)).max() < 40
    assert picture(encoded(scene().convert("L"), "JPEG")).shape == (60, 120, 3)


def test_large_pictures_are_reduced() -> None:
    assert picture(encoded(scene().resize((4000, 2000)), "JPEG")).shape == (512, 1024, 3)
    assert picture(encoded(scene().convert("P").resize((2000, 4000)), "PNG")).shape == (1024, 512, 3)


@pytest.mark.parametrize(
    ("size", "edge", "shape"),
    [
        ((1340, 1072), 348, (536, 670)),
        ((1072, 1340), 670, (670, 536)),
        ((1072, 1340), 671, (1024, 819)),
        ((4000, 3000), 348, (375, 500)),
        ((4000, 3000), 580, (750, 1000)),
        ((4000, 100), 348, (13, 500)),
        ((348, 348), 348, (348, 348)),
        ((100, 80), 348, (80, 100)),
        ((5000, 4900), 64, (103, 105)),
    ],
)
def test_a_jpeg_is_decoded_to_what_is_needed(size: tuple[int, int], edge: int, shape: tuple[int, int]) -> None:
    found = decode_sized(encoded(scene().resize(size), "JPEG"), edge=edge)
    assert isinstance(found, Decoded)
    assert found.picture.shape == (*shape, 3)
    assert (found.width, found.height) == size


def test_other_formats_are_shrunk_towards_what_is_needed() -> None:
    for kind in ("PNG", "WEBP", "GIF"):
        assert picture(encoded(scene().resize((1600, 800)), kind), edge=348).shape == (267, 534, 3)
        assert picture(encoded(scene().resize((600, 300)), kind), edge=348).shape == (300, 600, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_a_crop_as_much_is_decoded_as_its_own_pixels_need(orientation: int) -> None:
    """Also turned on its side, and where the picture is decoded to a fraction of its size."""
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)).resize((2000, 1500))
    turns = Image.Transpose
    stored = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE}
    stored |= {6: turns.ROTATE_90, 7: turns.TRANSVERSE, 8: turns.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = upright.transpose(stored[orientation]) if orientation > 1 else upright
    found = decode_sized(encoded(image, "JPEG", exif=exif, quality=95), Crop(200, 300, 1000, 400), 250)
    assert isinstance(found, Decoded)
    assert (found.width, found.height) == (2000, 1500)
    assert found.picture.shape == (100, 250, 3)
    wanted = np.asarray(upright.crop((200, 300, 1200, 700)).reduce(4), int)
    assert np.abs(found.picture - wanted).mean() < 4
    assert picture(encoded(image, "JPEG", exif=exif), Crop(200, 300, 400, 200), 250).shape == (200, 400, 3)


def test_the_smallest_view_has_the_pixels_that_it_needs() -> None:
    photo = picture(encoded(scene().resize((4640, 2320)), "JPEG"), edge=views_edge(348, 2))
    assert photo.shape == (290, 580, 3)
    assert views(photo, 348).shape == (4, 348, 348, 3)
    assert int(0.6 * photo.shape[1]) == 348


@needs_shared
def test_a_jpeg_that_cannot_be_decoded_to_less_is_decoded_whole() -> None:
    data = (SHARED / "hostile" / "files" / "0982_random8_94x97_lossless_psv7_pt6.jpg").read_bytes()
    assert picture(data, edge=16).shape == picture(data).shape


@pytest.mark.fault("I1")
@pytest.mark.fault("I4")
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.EMPTY),
        (b"hello", Kind.UNSUPPORTED_FORMAT),
        (b"<html></html>", Kind.UNSUPPORTED_FORMAT),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Kind.UNSUPPORTED_FORMAT),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", Kind.UNSUPPORTED_FORMAT),
        (encoded(scene(), "TIFF"), Kind.UNSUPPORTED_FORMAT),
        (encoded(scene(), "JPEG")[:400], Kind.BAD_IMAGE),
        (encoded(scene(), "PNG")[:60], Kind.BAD_IMAGE),
        (b"\xff\xd8\xff" + b"junk" * 99, Kind.BAD_IMAGE),
        (drawn(1) + bytes(images.MAX_BYTES), Kind.TOO_LARGE),
    ],
)
def test_what_is_no_picture_is_refused_with_its_kind(data: bytes, kind: Kind) -> None:
    assert refused(data) == kind


def test_a_jpeg_that_is_none_is_refused_in_words_for_people() -> None:
    found = decode(b"\xff\xd8\xff")
    assert isinstance(found, Refusal)
    assert found.detail == "The image cannot be decoded: it is damaged, or an unknown sort of JPEG."


@pytest.mark.fault("I3")
def test_a_pixel_bomb_is_refused_by_its_header() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    assert refused(bomb) == Kind.TOO_MANY_PIXELS
    assert refused(encoded(Image.new("1", (5001, 5001)), "PNG")) == Kind.TOO_MANY_PIXELS


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert picture(data).shape == (60, 120, 3)


def test_square_shows_all_of_the_picture_on_white() -> None:
    found = square(np.asarray(scene()), 100)
    assert found.shape == (100, 100, 3)
    assert (found[:20] == 255).all()
    assert np.abs(found[50, 10].astype(int) - (200, 30, 30)).max() < 5
    assert np.abs(found[50, 90].astype(int) - (30, 30, 200)).max() < 5


@pytest.mark.fault("I1")
@pytest.mark.fault("I2")
@needs_shared
def test_hostile_pictures_end_as_expected() -> None:
    """To whatever size they are decoded, and in part, too."""
    wrong = []
    with (SHARED / "hostile" / "manifest.csv").open(newline="") as file:
        for case in csv.DictReader(file):
            data = (SHARED / "hostile" / "files" / case["file"]).read_bytes()
            for crop, edge in ((None, images.MAX_EDGE), (None, 32), (Crop(0, 0, 1, 0.5), 32)):
                became = "refuse" if isinstance(decode(data, crop, edge), Refusal) else "decode"
                if case["expectation"] not in ("safe", became):
                    wrong.append((case["file"], became, edge))
    assert not wrong


@pytest.mark.slow
def test_decoding_a_large_picture_takes_bounded_memory() -> None:
    script = (
        "import io, resource, numpy as np; from PIL import Image; from shared.images.decode import decode\n"
        "noise = Image.fromarray(np.random.default_rng(0).integers(0, 9, (4900, 5000), np.uint8))\n"
        "file = io.BytesIO(); noise.convert('RGB').save(file, 'JPEG', quality=30); del noise\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; decode(file.getvalue())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # kilobytes
