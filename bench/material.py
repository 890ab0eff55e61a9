"""What a benchmark runs on, and how much of it: pictures of the drawn shop, or of a folder of the user's."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from indexer.sample import draw_shop
from indexer.sources import Source
from shared.errors import CatalogError
from shared.images import MAX_EDGE, Picture, decode, square
from shared.refusals import Refusal
from shared.urls import UrlTemplate


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

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
        """Nothing larger than this, three rounds, and seconds of one: a quick try."""
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
        """The folder `dataset`, with the labels of its `products.csv`, `photos_train.csv` and `photos_val.csv` where it
        has them; else the drawn shop."""
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
        """So many catalog pictures as a network takes them, from the beginning again where there are not enough."""
        return prepared([shot.path for shot in islice(cycle(self.catalog), count)], size)

    @property
    def questions(self) -> list[Path]:
        """Photos to ask a server with."""
        return [shot.path for shot in (self.photos or self.catalog)[:32]]


def prepared(paths: Sequence[Path], size: int) -> Picture:
    """Pictures as a network takes them."""
    return np.stack([square(decoded(path.read_bytes(), size), size) for path in paths])


def decoded(content: bytes, edge: int = MAX_EDGE) -> Picture:
    """A picture, of which so many pixels are needed. Raises `CatalogError` where it is none."""
    picture = decode(content, edge=edge)
    if isinstance(picture, Refusal):
        raise CatalogError(f"A picture cannot be used for a benchmark: {picture.detail}")
    return picture


def _labelled(folder: Path, name: str) -> Iterator[Shot]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter=";"):
            yield Shot(row["product_id_model"], folder / row["path"])
