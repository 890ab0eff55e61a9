"""The journal at one moment: what was changed, as far as it proves whole.

A row that is not as it was written is left out and named in `damage`, and so is a product one of whose images is not.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.live.mark import Mark
from shared.live.schema import checksum
from shared.vectors.unit import Vectors

UPLOADED = "live:"  # begins the address of an image that lies nowhere but here
# Table -> the name of a row, from its values.
_NAMES = {
    "unavailable": "the unavailable product {0!r:.80}",
    "pins": "the pins of product {0!r:.80}",
    "products": "change {0} of product {1!r:.80}",
    "images": "image {1} of change {0}",
    "vectors": "a vector of image {1} of change {0}",
}
_CLOCK = "SELECT journal, seq, availability, pins, products_sum, unavailable_sum, pins_sum, crc FROM clock"
_TOTALS = ("", "", "", "", "products", "unavailable", "pins")  # whose sum is where


@dataclass(frozen=True, slots=True)
class LiveImage:
    """An image of a product that was put. `image_url` is "" where it was uploaded; its address then begins with
    `UPLOADED` and ends with the SHA-256 of its bytes."""

    image_id: str
    image_url: str
    data: bytes

    @property
    def address(self) -> str:
        return self.image_url or UPLOADED + hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Pins:
    """The pins of one product: the ids that its hits begin with, in this order, and those that are never among them."""

    pinned: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """The state of a journal: its id, its last change, and the last ones of availability and of pins."""

    journal: str
    seq: int
    availability: int
    pins: int


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of a product: the images and attributes that were put, or, without attributes, a deletion. `made`
    is when."""

    product_id: str
    seq: int
    made: str
    attributes: Mapping[str, str] | None


class Reading:
    """The journal at one moment. `damage` names what was read and is not as it was written; `objection` says why it is
    not the journal of this `mark`, or is empty. Everything raises `sqlite3.Error` where the file is damaged."""

    def __init__(self, db: sqlite3.Connection, mark: Mark | None = None) -> None:
        self._db = db
        self.damage: list[str] = []
        clock = self.clock()
        self.objection = mark.objection(clock.journal, clock.seq) if mark else ""

    def clock(self) -> Clock:
        """The state of the journal."""
        return Clock(*self._sealed()[:4])

    def unavailable(self) -> frozenset[str]:
        """The ids of the products that are never answers."""
        rows = self._rows("SELECT product_id, crc FROM unavailable")
        return frozenset(name.decode() for (name,) in self._whole("unavailable", rows, self._total("unavailable")))

    def pins(self) -> dict[str, Pins]:
        """Product id -> its pins."""
        rows = self._rows("SELECT product_id, pinned, blocked, crc FROM pins")
        whole = self._whole("pins", rows, self._total("pins"))
        return {name.decode(): Pins(*(tuple(json.loads(ids)) for ids in lists)) for name, *lists in whole}

    def changes(self, after: int = 0) -> list[Change]:
        """The last change of each product, if it came after number `after`; in the order they were made.

        All are read, without an index, for only their sum shows that none is missing.
        """
        rows = self._rows("SELECT seq, product_id, made, attributes, crc FROM products NOT INDEXED")
        whole = self._whole("products", rows, self._total("products"))
        last = {name.decode(): (seq, made, text) for seq, name, made, text in whole}
        return [
            Change(name, seq, made.decode(), json.loads(text) if text else None)
            for name, (seq, made, text) in last.items()
            if seq > after
        ]

    def addresses(self, seq: int) -> list[tuple[str, str]]:
        """Id and address of each image that this change put; none if one of them is damaged."""
        before = len(self.damage)
        rows = self._rows("SELECT seq, place, image_id, image_url, data_crc, crc FROM images WHERE seq = ?", seq)
        whole = [*self._whole("images", rows, self._kept("images_sum", seq))]
        damaged = len(self.damage) > before
        return [] if damaged else [(image_id.decode(), address.decode()) for _, _, image_id, address, _ in whole]

    def data(self, seq: int, place: int) -> bytes | None:
        """The bytes of an image; None if it is no longer there, or damaged."""
        return self._image("WHERE seq = ? AND place = ?", seq, place)

    def picture(self, address: str) -> bytes | None:
        """The bytes of the image with this address; None if it is no longer there, or damaged."""
        return self._image("NOT INDEXED WHERE image_url = ?", address)

    def vectors(self, seq: int, fingerprint: str) -> dict[int, Vectors]:
        """The raw vectors `(d,)` by that network of this change's images, by their places; only of those that have
        one. A damaged one counts as none: it is made again."""
        return {place: raw for place, network, raw in self.all_vectors(seq) if network == fingerprint}

    def all_vectors(self, seq: int) -> list[tuple[int, str, Vectors]]:
        """Place, network and raw vector `(d,)`: all that this change's images have."""
        rows = [*self._rows("SELECT seq, place, fingerprint, crc, vector FROM vectors WHERE seq = ?", seq)]
        raw = {(place, network): vector for _, place, network, _, vector in rows}
        checked = ([*key, checksum(vector), crc] for *key, crc, vector in rows)
        whole = self._whole("vectors", checked, self._kept("vectors_sum", seq))
        return [(place, name.decode(), np.frombuffer(raw[place, name], np.float32)) for _, place, name, _ in whole]

    def _image(self, where: str, *arguments: object) -> bytes | None:
        query = f"SELECT seq, place, image_id, image_url, data_crc, crc, data FROM images {where}"
        for *values, crc, data in self._db.execute(query, arguments):
            if crc == checksum("images", *values) and values[-1] == checksum(data):
                return bytes(data)
            self.damage.append(_name("images", values))
        return None

    def _rows(self, query: str, *arguments: object) -> Iterator[Sequence[Any]]:
        """The rows of a query, ordered by its first two columns."""
        return self._db.execute(f"{query} ORDER BY 1, 2", arguments)

    def _whole(self, table: str, rows: Iterable[Sequence[Any]], total: int | None) -> Iterator[Sequence[Any]]:
        """Those rows that are as they were written, without their checksum, which comes last. `total`: the sum of all
        checksums."""
        found, bad = 0, False
        for *values, crc in rows:
            if crc == checksum(table, *values):
                found += crc
                yield values
            else:
                bad = True
                self.damage.append(_name(table, values))
        if not bad and total not in (None, found):
            self.damage.append(f"rows of {table}, which are missing")

    def _total(self, table: str) -> int | None:
        """A sum that the clock keeps."""
        total: int | None = self._sealed()[_TOTALS.index(table)]
        return total

    def _kept(self, column: str, seq: int) -> int | None:
        """A sum that a change's product keeps."""
        found = self._db.execute(f"SELECT {column} FROM products WHERE seq = ?", (seq,)).fetchone()
        total: int | None = found and found[0]
        return total

    def _sealed(self) -> tuple[Any, ...]:
        """The clock's row, without its checksum. Raises `sqlite3.DatabaseError` where it is damaged."""
        *values, crc = self._db.execute(_CLOCK).fetchone() or (None,)
        if crc != checksum("clock", *values):
            raise sqlite3.DatabaseError("its clock is damaged")
        return (values[0].decode(), *values[1:])


def _name(table: str, values: Sequence[Any]) -> str:
    """The name of a row, however damaged its values are."""
    return _NAMES[table].format(*(v.decode(errors="replace") if isinstance(v, bytes) else v for v in values))
