"""Simulate a phone's photo of a product's picture: put the product on white somewhere, light it badly, photograph
it."""

import io
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from shared.images.decode import Picture, decode
from shared.images.encode import jpeg
from shared.refusals import Refusal

Floats: TypeAlias = NDArray[np.float32]

_NEAR_WHITE = 246
_EDGES = (480, 640)
_PLACES = 60
_WOODS = ((168, 120, 76), (196, 160, 116), (104, 70, 48))


def photographed(picture: Picture, rng: np.random.Generator, clutter: Sequence[Picture] = ()) -> Picture:
    """Make a photo, 480 x 640 or 640 x 480, of the object on white in `picture`; parts of `clutter` may lie around it.

    `uint8 (height, width, 3)` -> `uint8 (640, 480, 3)` or `uint8 (480, 640, 3)`.
    """
    scene, size = _empty_scene(rng)
    for other in clutter:
        side = rng.choice([-1, 1], 2) * rng.uniform(0.42, 0.62, 2) * size
        _put(scene, _cut_out(other), size / 2 + side, 0.55 * min(size), rng.uniform(-180, 180), rng)
    scale = min(size) * rng.uniform(0.74, 1.12)
    middle = size / 2 + rng.uniform(-0.09, 0.09, 2) * min(size)
    _put(scene, _cut_out(picture), middle, scale, float(rng.normal(0, 15)), rng)
    return _exposed(scene, rng)


def photographed_afar(
    pictures: Sequence[Picture], share: float, rng: np.random.Generator, clutter: Sequence[Picture] = ()
) -> Picture:
    """Make such a photo of one or more objects that lie somewhere, none on another while there is room. The box around
    each one is that `share` of the photo's area, or as much as fits; those of `clutter` are about a tenth."""
    scene, size = _empty_scene(rng)
    things = [(_cut_out(picture), share) for picture in pictures]
    lying: list[NDArray[np.float64]] = []
    for thing, part in (*things, *((_cut_out(other), rng.uniform(0.05, 0.15)) for other in clutter)):
        sides = np.array(thing.size) / max(thing.size)
        edge = min(math.sqrt(part * size.prod() / sides.prod()), 0.97 * min(size))
        box = _free_place(sides * edge / 2, size, lying, rng)
        lying.append(box)
        _put(scene, thing, box.mean(axis=0), edge, float(rng.normal(0, 15)), rng)
    return _exposed(scene, rng)


def _empty_scene(rng: np.random.Generator) -> tuple[Image.Image, NDArray[np.int64]]:
    """A ground, and its width and height."""
    width, height = _EDGES if rng.random() < 0.6 else _EDGES[::-1]
    return _ground(rng, width, height), np.array([width, height])


def _free_place(
    half: NDArray[np.float64], size: NDArray[np.int64], lying: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Of some random places, the one least covered by what lies there: the least and the greatest corner `(2, 2)`."""
    margin = np.minimum(half, size / 2)
    middles = margin + rng.random((_PLACES, 2)) * (size - 2 * margin)
    boxes = np.stack([middles - half, middles + half], axis=1)
    covered = np.zeros(_PLACES)
    for box in lying:
        shared = np.minimum(boxes[:, 1], box[1]) - np.maximum(boxes[:, 0], box[0])
        covered += np.maximum(shared, 0).prod(axis=1)
    return np.asarray(boxes[covered.argmin()])


def in_studio(data: bytes) -> bool:
    """Tell whether the bytes of an image are a studio shot: nearly all of the picture's rim has one colour."""
    picture = decode(data)
    if isinstance(picture, Refusal):
        return False
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.int16)
    return bool((np.abs(rim - np.median(rim, axis=0)).max(axis=1) < 12).mean() > 0.8)


def _cut_out(picture: Picture) -> Image.Image:
    """The object without the white around it: RGBA, cropped."""
    white = np.pad(np.minimum.reduce(np.moveaxis(picture, 2, 0)), 1, constant_values=255) > _NEAR_WHITE
    mask = Image.fromarray(np.where(_reached(white), 0, 255).astype(np.uint8)[1:-1, 1:-1])
    image = Image.fromarray(picture)
    # A little inwards: the outermost pixels of the object are mixed with white.
    image.putalpha(mask.filter(ImageFilter.BoxBlur(1)).point([max(0, 2 * a - 255) for a in range(256)]))
    return image.crop(mask.getbbox())


def _reached(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The free pixels `(h, w)` that a path over free pixels joins to the top left corner."""
    rows, columns = _runs(free), _runs(free.T).T
    reached = np.zeros_like(free)
    reached[0, 0], count = True, 0
    while count != (count := int(reached.sum())):  # each round, a run of free pixels is reached as a whole
        for runs in (rows, columns):
            hit = np.zeros(runs.max() + 1, bool)
            hit[runs[reached]] = True
            reached = hit[runs] & free
    return reached


def _runs(free: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The number of the run of like pixels, along its row, at each pixel."""
    starts = np.pad(free[:, 1:] != free[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return np.cumsum(starts, dtype=np.int32).reshape(free.shape)


def _put(
    scene: Image.Image, thing: Image.Image, middle: NDArray[np.float64], edge: float, angle: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Lay the thing and its shadow on the scene, its longer edge `edge` pixels, seen a little from one side."""
    half = np.array(thing.size) / max(thing.size) * edge / 2
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half * rng.uniform(0.88, 1.08, (4, 2))
    corners = corners @ np.array([[cos, sin], [-sin, cos]]) + middle
    source = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * thing.size
    coefficients = _perspective(corners, source)
    view = thing.transform(scene.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    depth = rng.uniform(0.35, 0.6)
    soft = view.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 3))).resize(scene.size)
    dx, dy = rng.integers(-8, 9, 2).tolist()
    scene.paste("black", (dx, dy), soft.point([round(depth * level) for level in range(256)]))
    scene.paste(view, mask=view)


def _perspective(corners: NDArray[np.float64], source: NDArray[np.float64]) -> tuple[float, ...]:
    """Pillow's eight coefficients that take four corners of the photo to those of the source."""
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return tuple(np.linalg.solve(np.array(rows), source.reshape(-1)).tolist())


def _noise(rng: np.random.Generator, width: int, height: int, across: float, down: float) -> Floats:
    """Smooth noise `(height, width)`, mostly -1 to 1, its grains `across` x `down` pixels."""
    grains = rng.standard_normal((int(height / down) + 2, int(width / across) + 2), np.float32) / 2
    return np.asarray(Image.fromarray(grains).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _ground(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A floor, a lawn or a rug."""
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    tones = rng.standard_normal((16, 16), np.float32)  # of boards and tiles
    large, fine = _noise(rng, width, height, 90, 90), _noise(rng, width, height, 2, 2)
    match rng.choice(["wood", "tiles", "carpet", "grass", "rubber", "rug"]):
        case "wood":
            plank = rng.uniform(60, 130)
            tone = 12 * tones[0, (y // plank).astype(int) % 16] + 14 * _noise(rng, width, height, 120, 3)
            shade, base = tone + 8 * large + 4 * fine - 60 * (y % plank < 2.5), rng.choice(_WOODS)
        case "tiles":
            tile = rng.uniform(70, 150)
            tone = 7 * tones[(y // tile).astype(int) % 16, (x // tile).astype(int) % 16]
            grout = (x % tile < 4) | (y % tile < 4)
            shade, base = tone + 6 * large + 4 * fine - 45 * grout, rng.choice([(186, 190, 190), (128, 146, 158)])
        case "carpet":
            shade, base = 26 * fine + 10 * large, rng.choice([(92, 98, 112), (134, 112, 92), (150, 146, 138)])
        case "grass":
            blades = _noise(rng, width, height, 3, 14) + _noise(rng, width, height, 8, 4)
            shade, base = 34 * blades + 16 * large + 12 * fine, np.array((84, 122, 52))
        case "rubber":
            shade, base = 10 * fine + 6 * large + 90 * (fine > 1.1), np.array((58, 60, 64))
        case _:
            stripe = 24 * np.sign(np.sin(x / rng.uniform(14, 40)))
            shade, base = stripe + 16 * fine + 8 * large, rng.choice([(150, 90, 80), (96, 110, 134), (176, 158, 122)])
    return _merged([shade + part for part in base.astype(np.float32)])


def _merged(bands: Sequence[Floats]) -> Image.Image:
    """The picture of three bands `(height, width)`: three times as fast as one array of pixels."""
    return Image.merge("RGB", [Image.fromarray(band.clip(0, 255).astype(np.uint8)) for band in bands])


def _exposed(scene: Image.Image, rng: np.random.Generator) -> Picture:
    """Photograph the scene: uneven light of some colour, blur, noise, JPEG."""
    width, height = scene.size
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    turn, warmth = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.07)
    light = np.float32(rng.uniform(0.78, 1.1)) * (
        1 + 0.24 * (x * math.cos(turn) + y * math.sin(turn)) - 0.1 * (x**2 + y**2)
    )
    tint, haze = (1 + warmth, 1.0, 1 - warmth), np.float32(rng.uniform(0, 18))
    lit = [np.asarray(band, np.float32) * (light * tone) + haze for band, tone in zip(scene.split(), tint, strict=True)]
    image = _merged(lit).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
    grain = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(2, 8))
    noisy = _merged([np.asarray(band, np.float32) + grain for band in image.split()])
    photo = jpeg(noisy, quality=int(rng.integers(40, 75)))
    return np.array(Image.open(io.BytesIO(photo)))
