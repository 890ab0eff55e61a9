"""The pictures of a benchmark, and how many: those of the drawn shop, or of a folder of the user's."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from indexer.catalog.sources import Source
from indexer.demo.drawn_shop import draw_shop
from shared.embedding.engines.runtime import Runtime, cores
from shared.errors import CatalogError
from shared.images.decode import MAX_EDGE, Picture, decode
from shared.images.encode import jpeg
from shared.images.views import square
from shared.refusals import Refusal
from shared.storage.files import replacing
from shared.storage.url_template import UrlTemplate

_NOISE, _QUALITY = 4, 90  # of a photo: the deviation of its noise, and how well JPEG keeps it


class Pixels(NamedTuple):
    """The size of a picture."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width:,} x {self.height:,}"


# As a shop keeps its pictures to show them small, and to be looked at; and as a phone takes them.
SMALL, LARGE, PHONE = Pixels(348, 348), Pixels(1072, 1340), Pixels(3000, 4000)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The amounts of everything."""

    rounds: int = 5
    pictures: int = 64  # embedded in a round
    loop_pictures: int = 8  # the same one by one, which is slow
    images: int = 2720  # indexed
    repeats: int = 10  # times as many for the larger run, whose memory is measured
    vectors: int = 1_000_000
    dimension: int = 256
    queries: int = 200
    few: int = 10_000  # products in a snapshot
    some: int = 100_000
    many: int = 1_000_000
    seconds: int = 4  # of load in a round

    def capped(self, limit: int) -> "Sizes":
        """The same sizes for a quick try: nothing larger than `limit`, three rounds, and seconds of one."""
        smaller = {f.name: min(getattr(self, f.name), limit) for f in fields(self)}
        return Sizes(**{**smaller, "dimension": self.dimension, "rounds": min(3, limit), "seconds": 1})


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture file, and the product that it shows."""

    product_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Material:
    """`catalog`: what to index. `packshots`, and `photos` to find them by: none, in a folder without labels. `work`:
    where a benchmark keeps what it makes, to be found again."""

    name: str
    catalog: Sequence[Shot]
    packshots: Sequence[Shot]
    photos: Sequence[Shot]
    work: Path
    sizes: Sizes

    @classmethod
    def of(cls, data: Path, dataset: Path | None, sizes: Sizes) -> "Material":
        """Take the folder `dataset`, with the labels of its `products.csv`, `photos_train.csv` and `photos_val.csv` if
        it has them; without a folder the drawn shop."""
        shop, packshots, photos = data / "sample", [], []
        if dataset is None:
            if not (shop / "photos.csv").exists():  # written last
                draw_shop(shop)
            rows = Source(str(shop / "catalog.csv.gz"), UrlTemplate("file:///{id}")).read().rows
            catalog = packshots = [Shot(row.product_id, shop / "images" / f"{row.image_id}.jpg") for row in rows]
            photos = list(_labelled(shop, "photos.csv"))
        elif (dataset / "photos_val.csv").exists():
            packshots, photos = (list(_labelled(dataset, name)) for name in ("products.csv", "photos_val.csv"))
            catalog = [*packshots, *_labelled(dataset, "photos_train.csv")]
        else:
            rows = Source(str(dataset), UrlTemplate("file:///{path}")).read().rows
            catalog = [Shot(row.product_id, dataset / row.attributes["path"]) for row in rows]
        name = dataset.name if dataset else "the drawn shop"
        return cls(name, catalog, packshots, photos, data / "bench" / "work", sizes)

    def pictures(self, count: int, size: int) -> Picture:
        """So many catalog pictures as a network takes them, repeated if there are not enough."""
        return prepared([shot.path for shot in islice(cycle(self.catalog), count)], size)

    @property
    def runtime(self) -> Runtime:
        """The engine, which keeps converted networks in `work`."""
        return Runtime(self.work / "networks")

    def sized(self, paths: Sequence[Path], pixels: Pixels) -> list[Path]:
        """The middle of the same pictures as JPEG files of that size, made once."""
        folder = self.work / f"{pixels.width}x{pixels.height}"
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(partial(_sized, folder, pixels), paths))

    @property
    def questions(self) -> list[Path]:
        """Photos to query a server by."""
        return [shot.path for shot in (self.photos or self.catalog)[:32]]


def prepared(paths: Sequence[Path], size: int) -> Picture:
    """Pictures as a network takes them."""
    return np.stack([square(decoded(path.read_bytes(), size), size) for path in paths])


def decoded(content: bytes, edge: int = MAX_EDGE) -> Picture:
    """Decode a picture of which so many pixels are needed. Raises `CatalogError` if it is none."""
    picture = decode(content, edge=edge)
    if isinstance(picture, Refusal):
        raise CatalogError(f"A picture cannot be used for a benchmark: {picture.detail}")
    return picture


def _sized(folder: Path, pixels: Pixels, path: Path) -> Path:
    content = path.read_bytes()
    made = folder / f"{hashlib.sha256(content).hexdigest()[:24]}.jpg"
    if not made.exists():
        with replacing(made) as part:
            part.write_bytes(_jpeg(decoded(content), pixels))
    return made


def _jpeg(picture: Picture, pixels: Pixels) -> bytes:
    """A picture of that size as JPEG. An enlarged one gets a camera's noise; without it the file would be too small."""
    image = ImageOps.fit(Image.fromarray(picture), pixels, Image.Resampling.BICUBIC)
    if pixels.height > picture.shape[0]:
        image = Image.fromarray((np.asarray(image) + _noise(pixels)).clip(0, 255).astype(np.uint8))
    return jpeg(image, _QUALITY)


@cache
def _noise(pixels: Pixels) -> NDArray[np.int16]:
    return np.random.default_rng(0).normal(0, _NOISE, (pixels.height, pixels.width, 1)).astype(np.int16)


def _labelled(folder: Path, name: str) -> Iterator[Shot]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter=";"):
            yield Shot(row["product_id_model"], folder / row["path"])
