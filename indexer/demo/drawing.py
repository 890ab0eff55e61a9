"""Draw the sample's products: a `Design` has the traits of one product, a `Sheet` takes its shapes.

Coordinates are 0 to 100 from the top left corner, whatever the pixels. Shapes are filled from the back to the
front; light falls from the top left, on every shape alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Floats: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = NDArray[np.float64]  # (n, 2): a closed polygon
Paint: TypeAlias = Callable[[Floats, Floats], Floats]  # x (h, w), y (h, w) -> RGB (h, w, 3), 0 to 255

SIDE = 512
_UNIT = SIDE / 100
INK, STEEL, WHITE, GREY = (38, 40, 46), (196, 203, 212), (244, 245, 247), (122, 128, 138)


@dataclass(frozen=True, slots=True)
class Design:
    """One product. `p`, `q` and `r` (0 to 1) are its proportions, `style` (0 to 9) chooses details of its kind."""

    kind: str
    main: Colour
    second: Colour
    accent: Colour
    pattern: str
    mark: str
    word: str
    p: float
    q: float
    r: float
    style: int
    seed: int

    def paint(self, period: float = 10, centre: tuple[float, float] = (50, 50), angle: float = 0) -> Paint:
        """The product's pattern; `period` in units, `angle` in degrees."""
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

        def paint(x: Floats, y: Floats) -> Floats:
            x, y = x - float(centre[0]), y - float(centre[1])
            second, accent = _weights(self, cos * x + sin * y, cos * y - sin * x, period)
            colours = np.array([self.main, self.second, self.accent], np.float32)
            mixed = colours[0] + second[..., None] * (colours[1] - colours[0])
            return np.asarray(mixed + accent[..., None] * (colours[2] - mixed), np.float32)

        return paint


PATTERNS = ("plain", "stripes", "hoops", "band", "chevron", "dots", "halves", "fade", "splatter", "checks")


def _weights(d: Design, u: Floats, v: Floats, t: float) -> tuple[Floats, Floats]:
    """The shares of the second colour, and then of the accent, at `u`, `v`."""

    def edge(inside: Floats) -> Floats:
        return np.asarray(np.clip(inside / 0.2 + 0.5, 0, 1))

    def lines(at: Floats, period: float, width: float) -> Floats:
        return edge(width / 2 - abs(at % period - period / 2))

    t, none = float(t), np.zeros_like(u)
    match d.pattern:
        case "stripes":
            at = 0.7 * (u + v)
            return lines(at, t, 0.5 * t), lines(at + t / 2, t, 0.12 * t)
        case "hoops":
            return lines(v, 1.4 * t, 0.6 * t), lines(v + 0.7 * t, 1.4 * t, 0.2 * t)
        case "band":
            at = v - 0.35 * u
            return edge(1.1 * t - abs(at)), edge(0.22 * t - abs(abs(at) - 1.6 * t))
        case "chevron":
            at = v - abs(u)
            return lines(at, 2 * t, t), lines(at + t, 2 * t, 0.25 * t)
        case "dots":
            across = ((u / t + 0.5 * (np.floor(v / t) % 2)) % 1 - 0.5) * t
            return edge(0.3 * t - np.hypot(across, (v / t % 1 - 0.5) * t)), none
        case "halves":
            at = u + 0.3 * v
            return edge(at), edge(0.2 * t - abs(at))
        case "fade":
            return np.clip(v / (5 * t) + 0.5, 0, 1), none
        case "splatter":
            cell = 1.5 * t
            column, row = np.floor(u / cell).astype(int), np.floor(v / cell).astype(int)
            dx, dy, size = np.random.default_rng(d.seed).random((3, 32, 32), np.float32)[:, row % 32, column % 32]
            radius = (0.05 + 0.4 * size) * cell
            room = cell - 2 * radius
            away = np.hypot(u - column * cell - radius - dx * room, v - row * cell - radius - dy * room)
            spot = edge(radius - away)
            return spot * (size > 0.4), spot * (size <= 0.4)
        case "checks":
            return edge(0.3 * t * np.sin(np.pi * u / t) * np.sin(np.pi * v / t)), none
    return none, none


def points(text: str) -> Shape:
    """Parse `"x,y x,y"` into an array (n, 2)."""
    return np.array([point.split(",") for point in text.split()], float)


def curve(text: str, closed: bool = True) -> Shape:
    """The smooth curve that a polygon's edges touch; a point given twice makes a tighter corner."""
    shape = points(text)
    for _ in range(4):  # Chaikin: cut the corners off
        ahead = np.roll(shape, -1, axis=0) if closed else shape[1:]
        start = shape if closed else shape[:-1]
        cut = np.stack([0.75 * start + 0.25 * ahead, 0.25 * start + 0.75 * ahead], axis=1).reshape(-1, 2)
        shape = cut if closed else np.vstack([shape[:1], cut, shape[-1:]])
    return shape


def oval(x: float, y: float, rx: float, ry: float = 0, start: float = 0, end: float = 360) -> Shape:
    """An ellipse, or the part of it between two angles (degrees, clockwise from the right)."""
    angle = np.radians(np.linspace(start, end, 60))
    return np.stack([x + rx * np.cos(angle), y + (ry or rx) * np.sin(angle)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float, r: float = 1.5) -> Shape:
    """A rectangle with round corners."""
    corners = ((x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270))
    return np.vstack([oval(x, y, r, r, start, start + 90)[::6] for x, y, start in corners])


def tube(line: str | Shape, width: float, end: float | None = None) -> Shape:
    """A line of some width, which may change along it, with round ends."""
    path = curve(line, closed=False) if isinstance(line, str) else line
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    half = np.linspace(width, width if end is None else end, len(path))[:, None] / 2
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * half
    turn = np.linspace(np.pi / 2, -np.pi / 2, 9)[1:-1, None]
    tip, tail = (np.cos(turn) * along[i] * half[i] + np.sin(turn) * side[i] for i in (-1, 0))
    return np.vstack([path + side, path[-1] + tip, (path - side)[::-1], path[0] - tail])


def placed(shape: Shape, x: float, y: float, size: float = 1, angle: float = 0) -> Shape:
    """The shape turned by `angle` (degrees, clockwise), enlarged and moved."""
    cos, sin = np.cos(np.radians(angle)) * size, np.sin(np.radians(angle)) * size
    return np.asarray(shape @ np.array([[cos, sin], [-sin, cos]]) + (x, y))


def both(shape: Shape) -> tuple[Shape, Shape]:
    """The shape, and its mirror image on the sheet's other side."""
    return shape, (100, 0) + shape * (-1, 1)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two."""
    r, g, b = (round(x + share * (y - x)) for x, y in zip(one, other, strict=True))
    return r, g, b


def ink(ground: Colour) -> Colour:
    """White or black, whichever is seen better on the colour."""
    return WHITE if sum(ground) < 400 else INK


_STAR = np.array([(1 - 0.58 * (i % 2)) * np.array([np.sin(i * np.pi / 5), -np.cos(i * np.pi / 5)]) for i in range(10)])
MARKS = {
    "bolt": points("0.2,-1 -0.6,0.15 -0.05,0.15 -0.25,1 0.65,-0.25 0.1,-0.25"),
    "star": _STAR,
    "ring": np.vstack([oval(0, 0, 0.95), oval(0, 0, 0.5)[::-1]]),
    "peak": points("-1,0.7 -0.3,-0.7 0.05,0 0.3,-0.35 1,0.7"),
    "wave": tube("-1,0.4 -0.6,-0.9 0,-0.5 0.1,0.4 0.5,0.9 1,-0.4", 0.5, 0.3),
    "plus": points("-.3,-.9 .3,-.9 .3,-.3 .9,-.3 .9,.3 .3,.3 .3,.9 -.3,.9 -.3,.3 -.9,.3 -.9,-.3 -.3,-.3"),
    "diamond": points("0,-1 0.75,0 0,1 -0.75,0 0,-1 0,-0.5 -0.38,0 0,0.5 0.38,0 0,-0.5"),
    "arrow": points("-0.9,-0.8 -0.2,-0.8 0.9,0 -0.2,0.8 -0.9,0.8 0.1,0"),
    "leaf": curve("-0.9,0.9 -0.9,0.9 -0.9,-0.9 0.9,-0.9 0.9,-0.9 0.9,0.9"),
    "moon": np.vstack([oval(0, 0, 0.95, 0.95, 50, 310), oval(0.45, 0, 0.72, 0.72, 285, 75)]),
}


class Sheet:
    """The transparent sheet a product is drawn on, shape over shape."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIDE, SIDE))

    def fill(
        self, paint: Colour | Paint, *shapes: Shape, puff: float = 1.2, alpha: float = 1, soft: float = 0,
        clip: Shape | None = None,
    ) -> None:  # fmt: skip
        """Fill shapes, together, inside `clip`; `puff`: how far (in units) they bulge; `soft`: their edges' blur."""
        if not shapes:
            return
        every = np.vstack(shapes)
        lo = np.clip((every.min(axis=0) - 0.5 - 2 * soft) * _UNIT, 0, SIDE - 1).astype(int)
        hi = np.clip((every.max(axis=0) + 1.5 + 2 * soft) * _UNIT, lo + 1, SIDE).astype(int)
        mask = _mask(shapes, lo, hi)
        if soft:
            mask = mask.filter(ImageFilter.GaussianBlur(soft * _UNIT))
        if clip is not None:
            mask = ImageChops.multiply(mask, _mask((clip,), lo, hi))
        self._lay(paint, mask, lo, puff, alpha)

    def line(self, colour: Colour, *paths: str | Shape, width: float = 1, clip: Shape | None = None) -> None:
        """Thin lines: piping, seams, laces."""
        self.fill(colour, *[tube(path, width) for path in paths], puff=0.3, clip=clip)

    def stitch(self, colour: Colour, path: str, step: float = 1.5) -> None:
        """A dashed line of sewing."""
        dots = curve(path, closed=False)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(dots, axis=0), axis=1))])
        at = np.arange(0, length[-1], step / 2)
        even = np.stack([np.interp(at, length, dots[:, i]) for i in (0, 1)], axis=1)
        self.fill(colour, *[tube(even[i : i + 2], 0.45) for i in range(0, len(even) - 1, 2)], puff=0)

    def gloss(self, *shapes: Shape, alpha: float = 0.45, soft: float = 0.6, clip: Shape | None = None) -> None:
        """A highlight."""
        self.fill((255, 255, 255), *shapes, puff=0, alpha=alpha, soft=soft, clip=clip)

    def shade(self, *shapes: Shape, alpha: float = 0.5, soft: float = 0.3, clip: Shape | None = None) -> None:
        """A shadow or a groove."""
        self.fill((10, 12, 20), *shapes, puff=0, alpha=alpha, soft=soft, clip=clip)

    def mark(self, d: Design, x: float, y: float, size: float, colour: Colour | None = None, angle: float = 0) -> None:
        """The brand's mark, outlined so that it can be seen on any pattern."""
        shape, colour = placed(MARKS[d.mark], x, y, size, angle), colour or ink(d.main)
        self.fill(ink(colour), tube(np.vstack([shape, shape[:1]]), 0.25 * size), puff=0)
        self.fill(colour, shape, puff=0.2)

    def word(self, d: Design, x: float, y: float, size: float, colour: Colour | None = None, angle: float = 0) -> None:
        """The brand's name around `x`, `y`, `size` units high."""
        font = ImageFont.load_default(size * _UNIT)
        text, colour, edge = d.word.upper(), colour or ink(d.main), size * _UNIT / 6
        left, top, right, bottom = (int(side) for side in font.getbbox(text, stroke_width=edge))
        for ink_, stroke in ((ink(colour), edge), (colour, edge / 5)):
            mask = Image.new("L", (right - left + 4, bottom - top + 4))
            ImageDraw.Draw(mask).text((2 - left, 2 - top), text, 255, font, stroke_width=stroke)
            mask = mask.rotate(-angle, Image.Resampling.BICUBIC, expand=True)
            at = np.maximum(np.array([x, y]) * _UNIT - np.array(mask.size) / 2, 0).astype(int)
            self._lay(ink_, mask, at, 0, 1)

    def mirror(self) -> None:
        """Lay what is drawn so far, mirrored, over itself."""
        self.image.alpha_composite(self.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    def _lay(self, paint: Colour | Paint, mask: Image.Image, at: NDArray[np.int_], puff: float, alpha: float) -> None:
        """Paint through a mask whose top left corner lies at pixel `at`."""
        if callable(paint):
            y, x = (np.arange(size, dtype=np.float32) for size in (mask.height, mask.width))
            x, y = np.broadcast_arrays((x + at[0]) / np.float32(_UNIT), (y[:, None] + at[1]) / np.float32(_UNIT))
            layer = Image.fromarray(paint(x, y).clip(0, 255).astype(np.uint8))
        else:
            layer = Image.new("RGB", mask.size, paint)
        if puff:
            lit, shaded = _light(mask, puff)
            layer.paste("white", mask=lit)
            layer.paste("black", mask=shaded)
        layer.putalpha(mask if alpha == 1 else mask.point([round(alpha * level) for level in range(256)]))
        self.image.alpha_composite(layer, (int(at[0]), int(at[1])))


def _mask(shapes: tuple[Shape, ...], lo: NDArray[np.int_], hi: NDArray[np.int_]) -> Image.Image:
    """A mask of the shapes, from pixel `lo` to `hi`; drawn twice as large for smooth edges."""
    width, height = (int(size) for size in hi - lo)
    mask = Image.new("L", (2 * width, 2 * height))
    pen = ImageDraw.Draw(mask)
    for shape in shapes:
        pen.polygon([(x, y) for x, y in ((shape * _UNIT - lo) * 2).tolist()], fill=255)
    return mask.reduce(2)


def _light(mask: Image.Image, puff: float) -> tuple[Image.Image, Image.Image]:
    """The light and the shade on each pixel of a bulging shape, from the slope of its blurred mask."""
    small = mask.resize((max(1, mask.width // 2), max(1, mask.height // 2)), Image.Resampling.BOX)
    height = small.filter(ImageFilter.GaussianBlur(puff * _UNIT / 2))
    shift = max(1, round(puff * _UNIT / 4))
    ahead, behind, here = (
        np.asarray(ImageChops.offset(height, k * shift // 2, k * shift), np.float32) for k in (-1, 1, 0)
    )
    bulge = 0.55 * (ahead - behind) - 0.22 * (255 - here)
    lit, shaded = (Image.fromarray(side.clip(0, 255).astype(np.uint8)).resize(mask.size) for side in (bulge, -bulge))
    return lit, shaded
