"""The journal of a partition's live changes: one SQLite file, `<data>/live/371/0341.sqlite`.

Every change gets the next number of one sequence. It is acknowledged when it is on the disk, whole. Availability and
pins are kept as they are; of each product the last change, with its images as they were uploaded and the network's raw
vectors of them, so that a worker can answer with it at once and a later run can index it.
"""

import fcntl
import hashlib
import json
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shared.errors import NotKept, UnknownProduct
from shared.partition import Partition
from shared.storage.files import sync_folder
from shared.vectors.unit import Vectors

UPLOADED = "live:"  # begins the address of an image that lies nowhere but here
_VERSION = 1
_PATIENCE = 10.0
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE clock (
    journal TEXT NOT NULL, seq INTEGER NOT NULL, availability INTEGER NOT NULL, pins INTEGER NOT NULL
);
INSERT INTO clock VALUES (lower(hex(randomblob(8))), 0, 0, 0);
CREATE TABLE unavailable (product_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pins (product_id TEXT PRIMARY KEY, pinned TEXT NOT NULL, blocked TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE products (
    product_id TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, made TEXT NOT NULL, attributes TEXT
);
CREATE TABLE images (
    seq INTEGER NOT NULL REFERENCES products (seq) ON DELETE CASCADE, place INTEGER NOT NULL,
    image_id TEXT NOT NULL, image_url TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (seq, place)
);
CREATE INDEX addresses ON images (image_url);
CREATE TABLE vectors (
    seq INTEGER NOT NULL, place INTEGER NOT NULL, fingerprint TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (seq, place, fingerprint), FOREIGN KEY (seq, place) REFERENCES images (seq, place) ON DELETE CASCADE
);
PRAGMA user_version = {_VERSION};
"""


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
    """The journal at one moment."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def clock(self) -> Clock:
        return Clock(*self._db.execute("SELECT journal, seq, availability, pins FROM clock").fetchone())

    def unavailable(self) -> frozenset[str]:
        """The ids of the products that are never answers."""
        return frozenset(name for (name,) in self._db.execute("SELECT product_id FROM unavailable"))

    def pins(self) -> dict[str, Pins]:
        """Product id -> its pins."""
        rows = self._db.execute("SELECT product_id, pinned, blocked FROM pins")
        return {name: Pins(*(tuple(json.loads(ids)) for ids in lists)) for name, *lists in rows}

    def changes(self, after: int = 0) -> list[Change]:
        """The last change of each product, if it came after number `after`; in the order they were made."""
        query = "SELECT product_id, seq, made, attributes FROM products WHERE seq > ? ORDER BY seq"
        rows = self._db.execute(query, (after,))
        return [Change(name, seq, made, json.loads(text) if text else None) for name, seq, made, text in rows]

    def addresses(self, seq: int) -> list[tuple[str, str]]:
        """Id and address of each image that this change put."""
        query = "SELECT image_id, image_url FROM images WHERE seq = ? ORDER BY place"
        return [(image_id, address) for image_id, address in self._db.execute(query, (seq,))]

    def data(self, seq: int, place: int) -> bytes | None:
        """The bytes of an image; None if it is no longer there."""
        found = self._db.execute("SELECT data FROM images WHERE seq = ? AND place = ?", (seq, place)).fetchone()
        return found and bytes(found[0])

    def picture(self, address: str) -> bytes | None:
        """The bytes of the image with this address; None if it is no longer there."""
        found = self._db.execute("SELECT data FROM images WHERE image_url = ?", (address,)).fetchone()
        return found and bytes(found[0])

    def vectors(self, seq: int, fingerprint: str) -> dict[int, Vectors]:
        """The raw vectors `(d,)` by that network of this change's images, by their places; only of those that have
        one."""
        query = "SELECT place, vector FROM vectors WHERE seq = ? AND fingerprint = ?"
        rows = self._db.execute(query, (seq, fingerprint))
        return {place: np.frombuffer(vector, np.float32) for place, vector in rows}


class Journal:
    """The changes of one partition. Any number of processes and threads may read and write it.

    Everything raises `NotKept` where the file cannot be written or read.
    """

    def __init__(self, data: Path, partition: Partition) -> None:
        self._partition = partition
        self._path = data / "live" / partition.department / f"{partition.domain}.sqlite"
        self._watch: tuple[int, sqlite3.Connection] | None = None
        self._close: Callable[[], object] = lambda: None

    def state(self) -> tuple[int, int] | None:
        """A value that differs after any change; None while there never was one. For one thread at a time."""
        with self._explained():
            try:
                file = self._path.stat().st_ino
            except FileNotFoundError:
                return None
            if self._watch is None or self._watch[0] != file:
                self.close()
                self._watch = file, self._open()
                self._close = weakref.finalize(self, self._watch[1].close)  # also where nobody closes the journal
            return file, int(self._watch[1].execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Stop watching."""
        self._close()
        self._watch = None

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Read the journal as it is now; empty if there is none."""
        with self._explained(), closing(self._open() if self._path.exists() else _empty()) as db:
            db.execute("BEGIN")
            yield Reading(db)

    def put(
        self, product_id: str, attributes: Mapping[str, str], images: Sequence[LiveImage], network: str, raw: Vectors
    ) -> int:
        """Put a product in place of what it was, with the raw vectors `(images, d)` that this network gives.

        Returns the number of the change.
        """
        with self._writing() as (db, seq):
            _supersede(db, seq, product_id, json.dumps(dict(attributes), ensure_ascii=False))
            rows = ((seq, n, image.image_id, image.address, image.data) for n, image in enumerate(images))
            db.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", rows)
            vectors = ((seq, n, network, vector.astype(np.float32).tobytes()) for n, vector in enumerate(raw))
            db.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?)", vectors)
        return seq

    def delete(self, product_id: str, *, indexed: bool) -> int:
        """Delete a product; `indexed`: it is in the index, unless the journal knows better.

        Returns the number of the change. Raises `UnknownProduct` where it is not there.
        """
        with self._writing() as (db, seq):
            query = "SELECT attributes IS NOT NULL FROM products WHERE product_id = ?"
            (there,) = db.execute(query, (product_id,)).fetchone() or (indexed,)
            if not there:
                raise UnknownProduct(f"There is no product {product_id!r:.80} in {self._partition}.")
            _supersede(db, seq, product_id, None)
        return seq

    def embedded(self, seq: int, place: int, network: str, raw: Vectors) -> None:
        """Keep the raw vector `(d,)` that another network gives of an image, if it is still there."""
        query = "INSERT OR REPLACE INTO vectors SELECT seq, place, ?, ? FROM images WHERE seq = ? AND place = ?"
        with self._writing() as (db, _):
            db.execute(query, (network, raw.astype(np.float32).tobytes(), seq, place))

    def drop(self, product_ids: Sequence[str] | None = None) -> int:
        """Forget the puts and deletions of these products or of all; returns of how many."""
        with self._writing() as (db, _):
            if product_ids is None:
                return db.execute("DELETE FROM products").rowcount
            return db.executemany(
                "DELETE FROM products WHERE product_id = ?", ((name,) for name in product_ids)
            ).rowcount

    def set_available(self, unavailable: Iterable[str], available: Iterable[str] | None = None) -> int:
        """Make the first products unavailable, and the others available again: all others if none are given. Returns
        the number."""
        with self._writing() as (db, seq):
            if available is None:
                db.execute("DELETE FROM unavailable")
            db.executemany("DELETE FROM unavailable WHERE product_id = ?", ((name,) for name in available or ()))
            db.executemany("INSERT OR IGNORE INTO unavailable VALUES (?)", ((name,) for name in unavailable))
            db.execute("UPDATE clock SET availability = seq")
        return seq

    def pin(self, product_id: str, pins: Pins) -> int:
        """Set the pinned and blocked products of one query product. Returns the number of the change."""
        with self._writing() as (db, seq):
            db.execute("DELETE FROM pins WHERE product_id = ?", (product_id,))
            if pins != Pins():
                lists = (json.dumps(ids, ensure_ascii=False) for ids in (pins.pinned, pins.blocked))
                db.execute("INSERT INTO pins VALUES (?, ?, ?)", (product_id, *lists))
            db.execute("UPDATE clock SET pins = seq")
        return seq

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Make one change: a connection, and the change's number. All of it is on the disk afterwards, or nothing.

        Writers take turns by a lock of their own, which never times out under load and keeps checkpoints apart from
        commits: together they could damage the file before SQLite 3.51.3.
        """
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._path.exists():
                    self._create()
                with closing(self._open()) as db, db:
                    db.execute("BEGIN IMMEDIATE")
                    (seq,) = db.execute("UPDATE clock SET seq = seq + 1 RETURNING seq").fetchone()
                    yield db, seq

    def _create(self) -> None:
        """Create the file whole at once: another process never sees half of it."""
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with closing(sqlite3.connect(new)) as db:
            db.executescript(_SCHEMA)
        new.rename(self._path)
        sync_folder(self._path.parent)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                raise sqlite3.DatabaseError(f"it has format {version}, this program reads format {_VERSION}")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise NotKept(f"The live changes of {self._partition} cannot be kept or read: {error}.") from error


def _empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_SCHEMA)
    return db


def _supersede(db: sqlite3.Connection, seq: int, product_id: str, attributes: str | None) -> None:
    """Make this the product's last change, and remove the images and vectors of the one before."""
    db.execute("DELETE FROM products WHERE product_id = ?", (product_id,))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    db.execute("INSERT INTO products VALUES (?, ?, ?, ?)", (product_id, seq, made, attributes))
