"""The product table: one line of JSON per vector, found by row or by product id without loading the rest.

Rows are grouped by product, products stand in the order of their first row. On disk, all of it read through memory
maps that a server's workers share:

    products.jsonl        per row: {"product_id", "image_id", "image_url", "attributes"}
    products.offsets.npy  where each row's line begins, and where the last one ends
    products.starts.npy   per product: its first row; and the number of rows
    products.lookup.npy   hash of the product id -> product, sorted by hash
"""

import hashlib
import json
import mmap
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.index.row_groups import RowGroups
from shared.storage.arrays import read_array, write_array
from shared.storage.files import write_synced

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# The first three fields of a line, as they are written. A text cannot hold a bare quote, so nothing else fits.
_ORIGIN = re.compile(
    rb'^\{"product_id":"[^"\\]*(?:\\.[^"\\]*)*","image_id":"[^"\\]*(?:\\.[^"\\]*)*","image_url":"'
    rb"(https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?)(?=[/?#\"])",
    re.MULTILINE,
)
_ATTRIBUTES = b',"attributes":'
_PARSE = json.JSONDecoder().raw_decode
_LOOKUP = np.dtype([("hash", "<u8"), ("product", "<i4")])


@dataclass(frozen=True, slots=True)
class ProductImage:
    """One image of one product, which a row of the index stands for. Attributes are the catalog's other columns."""

    product_id: str
    image_id: str
    image_url: str
    attributes: Mapping[str, str]


def write_products(images: Sequence[ProductImage], folder: Path) -> None:
    """Write the four files. Raises `ValueError` if images of a product do not stand together."""
    lines = [line_of(image) + b"\n" for image in images]
    groups = RowGroups.of(image.product_id for image in images)
    ids = [images[row].product_id for row in groups.first]
    if len(set(ids)) != len(ids):
        raise ValueError("the images of a product must stand together")
    lookup = np.array([(_hash(product_id), number) for number, product_id in enumerate(ids)], _LOOKUP)
    write_synced(folder / "products.jsonl", b"".join(lines))
    write_array(folder / "products.offsets.npy", np.cumsum([0, *map(len, lines)], dtype=np.int64))
    write_array(folder / "products.starts.npy", groups.starts)
    write_array(folder / "products.lookup.npy", np.sort(lookup, order=("hash", "product")))


class ProductTable(ABC):
    """Rows grouped by product: row -> image, product id -> product. Safe to read from many threads."""

    starts: NDArray[np.int32]
    """The first row of each product, then the number of rows: `(products + 1,)`."""

    @abstractmethod
    def line(self, row: int) -> bytes:
        """The JSON object of the image that this row stands for."""

    @abstractmethod
    def find(self, product_id: str) -> int | None:
        """The number of the product, 0 to `count - 1`, or None."""

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    @property
    def count(self) -> int:
        """The number of products."""
        return len(self.starts) - 1

    def image(self, row: int) -> ProductImage:
        """The image that this row stands for."""
        return image_of(self.line(row))

    @property
    def groups(self) -> RowGroups:
        """The rows of each product."""
        return RowGroups(self.starts)

    def images(self, product: int) -> range:
        """The rows of a product."""
        return self.groups.rows(product)

    def owners(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """The product of each of these rows."""
        return self.groups.owners_of(rows)


class ListedTable(ProductTable):
    """A table whose lines can be read one after another, so that a listing can be made of it."""

    @property
    @abstractmethod
    def text(self) -> mmap.mmap | bytes:
        """All lines, each but the last ended by a line feed."""

    @abstractmethod
    def lines(self, begin: int, end: int) -> list[bytes]:
        """The JSON objects of the rows from `begin` to before `end`."""


class StoredTable(ListedTable):
    """The table in a snapshot's folder."""

    def __init__(self, folder: Path) -> None:
        self._offsets = read_array(folder / "products.offsets.npy", np.int64)
        self.starts = read_array(folder / "products.starts.npy", np.int32)
        self._lookup = read_array(folder / "products.lookup.npy", _LOOKUP)
        # Every search would copy what does not lie together.
        self._hashes = np.ascontiguousarray(self._lookup["hash"])
        with (folder / "products.jsonl").open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        rows, products = len(self._offsets) - 1, len(self._lookup)
        if self._offsets[-1] != len(self._lines) or len(self.starts) != products + 1 or self.starts[-1] != rows:
            raise SnapshotError(f"The product files in {folder} do not belong together.")

    @property
    def text(self) -> mmap.mmap:
        return self._lines

    def line(self, row: int) -> bytes:
        return self._lines[self._offsets.item(row) : self._offsets.item(row + 1) - 1]

    def lines(self, begin: int, end: int) -> list[bytes]:
        return self._lines[self._offsets[begin] : self._offsets[end] - 1].split(b"\n")

    def find(self, product_id: str) -> int | None:
        wanted = _hash(product_id)
        begins = b'{"product_id":%b,' % _JSON.encode(product_id).encode()
        at = int(self._hashes.searchsorted(np.uint64(wanted)))
        while at < self.count and int(self._hashes[at]) == wanted:
            product = int(self._lookup["product"][at])
            if self.line(int(self.starts[product])).startswith(begins):
                return product
            at += 1
        return None


def line_of(image: ProductImage) -> bytes:
    """An image as JSON, which begins with the product id."""
    fields = {
        "product_id": image.product_id,
        "image_id": image.image_id,
        "image_url": image.image_url,
        "attributes": dict(image.attributes),
    }
    return _JSON.encode(fields).encode()


def image_of(line: bytes) -> ProductImage:
    """The image that a line holds."""
    return ProductImage(**json.loads(line))


def product_id_of(line: bytes) -> str:
    """The product id of a line, without parsing the rest."""
    found: str = _PARSE(line.decode(), len('{"product_id":'))[0]
    return found


def attributes_of(line: bytes) -> bytes:
    """The attributes of a line, as JSON: those of a product's images are mostly the same, and need be parsed once."""
    return line[line.index(_ATTRIBUTES) + len(_ATTRIBUTES) : -1]


def origins_of(lines: bytes | mmap.mmap) -> set[str]:
    """The hosts of the pictures of all these lines on the web: `https://host`."""
    return {origin.decode() for origin in _ORIGIN.findall(lines)}


def fields_of(line: bytes) -> bytes:
    """A line without its opening brace, so that other fields can stand before its own without parsing it."""
    return line[1:]


def with_last(line: bytes, fields: bytes) -> bytes:
    """A JSON object with more fields behind its own, given without braces."""
    return b"%b,%b}" % (line[:-1], fields)


def _hash(product_id: str) -> int:
    digest = hashlib.blake2b(product_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
