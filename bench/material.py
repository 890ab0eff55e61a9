"""The pictures that benchmarks run on: the drawn shop, or a folder of the user's."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.config import BenchConfig
from indexer.sample import draw_shop
from indexer.sources import Source
from indexer.urls import UrlTemplate
from shared.errors import CatalogError
from shared.images import Picture, decode, square
from shared.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture file, and the product that it shows."""

    product_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Material:
    """Catalog pictures, and photos whose product is known (none, for a folder that does not say)."""

    name: str
    catalog: Sequence[Shot]
    photos: Sequence[Shot]

    def pictures(self, count: int, size: int) -> Picture:
        """So many catalog pictures as a network takes them, from the beginning again where there are not enough."""
        found = [prepared(shot.path, size) for shot in self.catalog[:count]]
        return np.stack([found[number % len(found)] for number in range(count)])


def material(config: BenchConfig) -> Material:
    """The folder given, with the labels of its `products.csv`, `photos_train.csv` and `photos_val.csv` where it has
    them; else the drawn shop."""
    folder = config.dataset
    if folder is None:
        shop = config.data / "sample"
        if not (shop / "photos.csv").exists():  # written last
            draw_shop(shop)
        rows = Source(str(shop / "catalog.csv.gz"), UrlTemplate("file:///{id}")).read().rows
        shots = [Shot(row.product_id, shop / "images" / f"{row.image_id}.jpg") for row in rows]
        return Material("the drawn shop", shots, _labelled(shop, "photos.csv"))
    if (folder / "photos_val.csv").exists():
        catalog = [*_labelled(folder, "products.csv"), *_labelled(folder, "photos_train.csv")]
        return Material(folder.name, catalog, _labelled(folder, "photos_val.csv"))
    rows = Source(str(folder), UrlTemplate("file:///{path}")).read().rows
    return Material(folder.name, [Shot(row.product_id, folder / row.attributes["path"]) for row in rows], [])


def prepared(path: Path, size: int) -> Picture:
    """A picture as a network takes it. Raises `CatalogError` where it is none."""
    picture = decode(path.read_bytes())
    if isinstance(picture, Refusal):
        raise CatalogError(f"{path} cannot be used for a benchmark: {picture.detail}")
    return square(picture, size)


def _labelled(folder: Path, name: str) -> list[Shot]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return [Shot(row["product_id_model"], folder / row["path"]) for row in csv.DictReader(file, delimiter=";")]
