"""A sports shop made up for demonstration and tests: 284 drawn products, their catalog, and users' photos of them.

Each of 24 kinds has ten products of their own; one of them is there in two or three colours, and of every other kind
one is listed twice.
"""

import csv
import gzip
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from indexer.demo.drawing import INK, MARKS, PATTERNS, SIDE, Colour, Design, Sheet, box, oval, tube
from indexer.demo.kinds import KINDS, draw
from indexer.progress import Bar
from indexer.quality.simulated_photo import photographed, photographed_afar
from shared.images.decode import Picture
from shared.images.encode import jpeg

PER_KIND, PHOTOS_PER_KIND, EDGE = 10, 5, 480
SHARES = (100, 50, 25, 10)  # of a photo's area, in percent

_BRANDS = ("Vintrik", "Holmgarr", "Zavrok", "Quellby", "Braskund", "Fjorvek", "Polvekka", "Tarniq", "Ombrisk", "Luvask")
_PALETTES = {  # main, second, accent
    "navy": "1d3557 f1f3f5 d62839", "white": "f4f4f0 1f5fa8 f2b632", "red": "c1272d 1e1f24 f2efe9",
    "black": "23262d c8e021 8a9099", "teal": "0f8b8d f4efe4 ee6c4d", "purple": "5b2a86 f5c518 e9e6ef",
    "orange": "f07f23 2d3142 fdf3e3", "green": "2f5d3a efe3c2 b5382f", "pink": "f08bb0 20304f fafafa",
    "sky": "7cc6ea 18364f f3f6f8",
}  # fmt: skip
_PRICES = (4, 8, 15, 20, 30, 45, 60, 90, 120, 180)
_VIEWS = ("front", "turned", "grey studio", "closer")


@dataclass(frozen=True, slots=True)
class Product:
    """A row of the shop's list. `pictures`: the ids of its catalog pictures; `photo`: of a user's photo, if any. The
    same thing in another colour has the same `style`. `again`: listed a second time, by smaller pictures. `afar`:
    there are photos of it for each of `SHARES`, too."""

    id: str
    style: str
    colour: str
    price: int
    design: Design
    pictures: tuple[str, ...]
    photo: str | None
    again: bool = False
    afar: bool = False

    @property
    def name(self) -> str:
        return f"{self.design.word} {self.design.kind} {self.design.pattern} {self.colour}"


@dataclass(frozen=True, slots=True)
class Shop:
    """The places where `draw_shop` put things, and the numbers of them."""

    catalog: Path
    images: Path
    photos: Path
    product_count: int
    image_count: int
    photo_count: int


def draw_shop(folder: Path) -> Shop:
    """Write the shop into `folder`, the same bytes every time.

    catalog.csv.gz      product_id_model;id;name;category;brand;style;colour;price, a row per picture
    images/<id>.jpg     2 to 4 pictures a product, as from a studio
    photos/<id>.jpg     120 photos of 120 products, as from users' phones
    photos.csv          product_id_model;id;name;category;path
    photos-25.csv       likewise: 24 photos in which the product has 25 % of the area, somewhere among other things;
                        so for each of `SHARES`
    """
    products = shop_products()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "photos").mkdir(exist_ok=True)
    # Threads do: Pillow and numpy leave the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool, Bar("products drawn", len(products)) as bar:
        for files in pool.map(product_files, products):
            for name, data in files:
                (folder / name).write_bytes(data)
            bar.advance()
    rows = [
        (p.id, picture, p.name, p.design.kind, p.design.word, p.style, p.colour, p.price)
        for p in products
        for picture in p.pictures
    ]
    catalog = _csv("product_id_model;id;name;category;brand;style;colour;price", rows)
    (folder / "catalog.csv.gz").write_bytes(gzip.compress(catalog, mtime=0))
    for share in SHARES:
        _list_photos(folder, [p for p in products if p.afar], f"-{share}")
    taken = [p for p in products if p.photo]
    _list_photos(folder, taken)
    return Shop(folder / "catalog.csv.gz", folder / "images", folder / "photos", len(products), len(rows), len(taken))


def shop_products() -> list[Product]:
    """All products: ten of each kind, of which no two share pattern, palette, brand, details or a proportion; then
    colours of the first of each kind; then the last of every other kind again."""
    products: list[Product] = []
    picture = 900_001

    def add(product: Product, count: int) -> None:
        nonlocal picture
        pictures = tuple(str(picture + k) for k in range(count))
        picture += count
        products.append(replace(product, id=str(8_300_037 + 13 * len(products)), pictures=pictures))

    for kind in KINDS:
        rng = np.random.default_rng(list(kind.encode()))
        orders = [rng.permutation(PER_KIND).tolist() for _ in range(7)]
        for i, (palette, pattern, brand, p, q, r, style) in enumerate(zip(*orders, strict=True)):
            colour = list(_PALETTES)[palette]
            proportions = (p / 9, q / 9, r / 9)
            seed = int(rng.integers(1 << 30))
            design = Design(
                kind,
                *_palette(colour),
                PATTERNS[pattern],
                list(MARKS)[brand],
                _BRANDS[brand],
                *proportions,
                style,
                seed,
            )
            number = len(products)
            photo = str(2_000_001 + number) if i < PHOTOS_PER_KIND else None
            product = Product("", f"S{number:03}", colour, _PRICES[style], design, (), photo, afar=i == 1)
            add(product, 2 + int(rng.integers(3)))
    for n, product in enumerate(products[::PER_KIND]):
        at = list(_PALETTES).index(product.colour)
        for colour in (list(_PALETTES) * 2)[at + 1 : at + (3 if n % 3 == 0 else 2)]:
            main, second, accent = _palette(colour)
            design = replace(product.design, main=main, second=second, accent=accent)
            add(replace(product, colour=colour, design=design, photo=None), len(product.pictures))
    for product in products[PER_KIND - 1 : PER_KIND * len(KINDS) : 2 * PER_KIND]:
        add(replace(product, again=True), len(product.pictures))
    return products


def _palette(name: str) -> tuple[Colour, Colour, Colour]:
    main, second, accent = (_colour(text) for text in _PALETTES[name].split())
    return main, second, accent


def _colour(text: str) -> Colour:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


def _list_photos(folder: Path, products: Iterable[Product], ending: str = "") -> None:
    rows = [(p.id, f"{p.photo}{ending}", p.name, p.design.kind, f"photos/{p.photo}{ending}.jpg") for p in products]
    (folder / f"photos{ending}.csv").write_bytes(_csv("product_id_model;id;name;category;path", rows))


def _csv(header: str, rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=";", lineterminator="\n").writerows([header.split(";"), *rows])
    return text.getvalue().encode()


def product_files(product: Product) -> list[tuple[str, bytes]]:
    """A product's pictures and photos: (path in the shop's folder, JPEG)."""
    rng = np.random.default_rng(product.design.seed)
    drawing = draw(product.design)
    views = [_VIEWS[0], *rng.permutation(_VIEWS[1:]).tolist()]
    files = [
        (f"images/{id}.jpg", _encoded(_packshot(drawing, view, rng), product.again))
        for id, view in zip(product.pictures, views, strict=False)
    ]
    if product.photo:
        clutter = [_beside(number) for number in rng.integers(24, size=rng.integers(3)).tolist()]
        files.append((f"photos/{product.photo}.jpg", jpeg(photographed(_on_white(drawing), rng, clutter), 80)))
    for share in SHARES if product.afar else ():
        clutter = [_beside(number) for number in rng.integers(24, size=rng.integers(1, 3)).tolist()]
        photo = photographed_afar([_on_white(drawing)], share / 100, rng, clutter)
        files.append((f"photos/{product.photo}-{share}.jpg", jpeg(photo, 80)))
    return files


def _encoded(shot: Image.Image, again: bool) -> bytes:
    return jpeg(shot.resize((360, 360), Image.Resampling.BICUBIC), 75) if again else jpeg(shot, 88)


@cache
def _beside(number: int) -> Picture:
    """Draw something that lies about, on white: a box, a towel, a cup seen from above."""
    one, other = ((int(r), int(g), int(b)) for r, g, b in np.random.default_rng(number).integers(30, 225, (2, 3)))
    sheet = Sheet()
    match number % 3:
        case 0:
            sheet.fill(one, box(10, 20, 90, 80), puff=3)
            sheet.fill(other, box(10, 44, 90, 56), puff=0.5)
        case 1:
            for i in range(5):
                sheet.fill(other if i % 2 else one, box(8, 10 + 16 * i, 92, 28 + 16 * i, 6), puff=3)
        case _:
            sheet.fill(one, tube("70,50 98,40 98,66 70,58", 7), oval(45, 50, 36), puff=3)
            sheet.fill(other, oval(45, 50, 28), puff=2)
    return _on_white(sheet.image)


def _on_white(drawing: Image.Image) -> Picture:
    plain = Image.new("RGB", drawing.size, "white")
    plain.paste(drawing, mask=drawing)
    return np.array(plain)


def _packshot(drawing: Image.Image, view: str, rng: np.random.Generator) -> Image.Image:
    """A studio's picture of the drawing, `EDGE` x `EDGE`, with a soft shadow."""
    ground, zoom, angle = "white", 0.94, 0.0
    match view:
        case "turned":
            far, slant = SIDE / 8, SIDE / 10 * float(rng.choice([-1, 1]))  # its one edge is further away
            left, right = max(0, slant), max(0, -slant)
            quad = (-far, -left, -far, SIDE + left, SIDE + far, SIDE + right, SIDE + far, -right)
            drawing = drawing.transform(drawing.size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
            zoom, angle = 0.88, float(rng.uniform(-14, 14))
        case "grey studio":
            ground, zoom = "#e4e6e8", float(rng.uniform(0.76, 0.88))
        case "closer":
            zoom = float(rng.uniform(1.3, 1.6))
    shadow = drawing.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(SIDE / 200)).resize(drawing.size)
    shot = Image.new("RGB", drawing.size, ground)
    shot.paste(INK, (SIDE // 90, SIDE // 40), mask=shadow.point([alpha * 3 // 10 for alpha in range(256)]))
    shot.paste(drawing, mask=drawing)
    if angle:
        shot = shot.rotate(angle, Image.Resampling.BICUBIC, fillcolor=ground)
    edge = SIDE / zoom
    if zoom > 1:
        return shot.resize(
            (EDGE, EDGE), Image.Resampling.BICUBIC, box=((SIDE - edge) / 2,) * 2 + ((SIDE + edge) / 2,) * 2
        )
    size = round(EDGE * zoom)
    framed = Image.new("RGB", (EDGE, EDGE), ground)
    framed.paste(shot.resize((size, size), Image.Resampling.BICUBIC), ((EDGE - size) // 2, (EDGE - size) // 2))
    return framed
