"""The journal of a partition's live changes: one SQLite file, `<data>/live/371/0341.sqlite`.

Every change gets the next number of one sequence. It is acknowledged when it is on the disk, whole. Availability and
pins are kept as they are; of each product the last change, with its images as they were uploaded and the network's raw
vectors of them, so that a worker can answer with it at once and a later run can index it.

Damage is seen: each row has a checksum (see `schema`), and a mark outside of the file tells of changes that it lacks.
"""

import errno
import fcntl
import json
import logging
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shared.errors import JournalDamaged, NotKept, UnknownProduct
from shared.live.mark import Mark, read_mark, write_mark
from shared.live.reading import LiveImage, Pins, Reading
from shared.live.schema import DAMAGE, FIRST, INSERT, check_version, checksum, connect, create, seal, upgrade, version
from shared.partition import Partition
from shared.storage.files import sync_folder
from shared.vectors.unit import Vectors

REPAIR = "python -m server journal repair"
_SHOWN = 5  # of the damaged rows
# A disk that is full or fails, or a lock that is held for long. Any other error means that the file is damaged.
_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY}
_DISK_OS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_log = logging.getLogger(__name__)


class Journal:
    """The changes of one partition. Any number of processes and threads may read and write it.

    Everything raises `NotKept` where the file cannot be written or read, and `JournalDamaged` where that is not for
    want of a good disk.
    """

    def __init__(self, data: Path, partition: Partition) -> None:
        self._partition = partition
        self.path = data / "live" / partition.department / f"{partition.domain}.sqlite"
        self.mark_path = data / "live-marks" / partition.department / partition.domain
        self._watch: tuple[int, sqlite3.Connection] | None = None
        self._close: Callable[[], object] = lambda: None

    def state(self) -> tuple[int, int] | None:
        """A value that differs after any change; None while there never was one. For one thread at a time."""
        with self._explained():
            if not (self.path.exists() or self._there(read_mark(self.mark_path))):
                return None
            file = self.path.stat().st_ino
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
        with self._explained():
            mark = read_mark(self.mark_path)  # before the journal, which only grows
            with closing(self._open() if self._there(mark) else _empty()) as db:
                db.execute("BEGIN")
                yield Reading(db, mark)

    def problem(self, reading: Reading) -> str:
        """Say what is damaged of that which was read, and the remedy; "" if nothing is."""
        said = []
        if reading.objection:
            said.append(f"The live changes of {self._partition} are not all that were made: {reading.objection}.")
        if damage := [*dict.fromkeys(reading.damage)]:
            more = f", and {len(damage) - _SHOWN:,} more" if len(damage) > _SHOWN else ""
            said.append(f"Live changes of {self._partition} are damaged: {', '.join(damage[:_SHOWN])}{more}.")
        return " ".join([*said, self._remedy]) if said else ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out. They take turns by a lock of their own, which never times out under load and keeps
        checkpoints apart from commits: together they could damage the file before SQLite 3.51.3."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def put(
        self, product_id: str, attributes: Mapping[str, str], images: Sequence[LiveImage], network: str, raw: Vectors
    ) -> int:
        """Put a product in place of what it was, with the raw vectors `(images, d)` that this network gives.

        Returns the number of the change.
        """
        with self._writing() as (db, seq):
            _supersede(db, seq, product_id, json.dumps(dict(attributes), ensure_ascii=False))
            rows = ((seq, n, image.image_id, image.address, image.data) for n, image in enumerate(images))
            db.executemany(INSERT["images"], rows)
            vectors = ((seq, n, network, vector.astype(np.float32).tobytes()) for n, vector in enumerate(raw))
            db.executemany(INSERT["vectors"], vectors)
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
        key = (seq, place, network)
        with self._writing() as (db, _):
            db.execute("DELETE FROM vectors WHERE seq = ? AND place = ? AND fingerprint = ?", key)
            if db.execute("SELECT 1 FROM images WHERE seq = ? AND place = ?", (seq, place)).fetchone():
                db.execute(INSERT["vectors"], (*key, raw.astype(np.float32).tobytes()))

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
                db.execute("UPDATE clock SET unavailable_sum = 0")
            delete, insert = "DELETE FROM unavailable WHERE product_id = ? RETURNING crc", INSERT["unavailable"]
            gone = sum(crc for name in available or () for (crc,) in db.execute(delete, (name,)).fetchall())
            rows = ((name, checksum("unavailable", name)) for name in unavailable)
            come = sum(row[1] for row in rows if db.execute(insert, row).rowcount)
            update = "UPDATE clock SET availability = seq, unavailable_sum = unavailable_sum + ?"
            db.execute(update, (come - gone,))
        return seq

    def pin(self, product_id: str, pins: Pins) -> int:
        """Set the pinned and blocked products of one query product. Returns the number of the change."""
        with self._writing() as (db, seq):
            db.execute("DELETE FROM pins WHERE product_id = ?", (product_id,))
            if pins != Pins():
                lists = (json.dumps(ids, ensure_ascii=False) for ids in (pins.pinned, pins.blocked))
                db.execute(INSERT["pins"], (product_id, *lists))
            db.execute("UPDATE clock SET pins = seq")
        return seq

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Make one change: a connection, and the change's number. All of it is on the disk afterwards, or nothing."""
        with self._explained(), self.locked():
            mark = read_mark(self.mark_path)
            if not self._there(mark):
                self._create()
            with closing(self._open(locked=True)) as db:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    before = Reading(db, mark)
                    if before.objection:
                        raise sqlite3.DatabaseError(before.objection)
                    clock = before.clock()
                    seq = clock.seq + 1
                    db.execute("UPDATE clock SET seq = ?", (seq,))
                    yield db, seq
                    seal(db)
                self._remember(Mark(clock.journal, seq))

    def _remember(self, mark: Mark) -> None:
        """Write the mark. The change is kept with or without it."""
        try:
            write_mark(self.mark_path, mark)
        except OSError as error:
            _log.warning("The mark of the live changes of %s cannot be written: %s", self._partition, error)

    def _there(self, mark: Mark | None) -> bool:
        """Tell whether there is a file. Raises `sqlite3.DatabaseError` if it is gone: the mark says that it was."""
        there = self.path.exists()
        if mark and not there:
            raise sqlite3.DatabaseError(f"the file with changes up to {mark.seq} is gone")
        return there

    def _create(self) -> None:
        """Create the file whole at once: another process never sees half of it."""
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch()
        with closing(connect(new)) as db:
            create(db)
        new.rename(self.path)
        sync_folder(self.path.parent)

    def _open(self, *, locked: bool = False) -> sqlite3.Connection:
        """Connect to the file, and give one of the first format its checksums."""
        db = connect(self.path)
        try:
            if version(db) == FIRST:
                with nullcontext() if locked else self.locked():
                    if version(db) == FIRST:  # still
                        upgrade(db)
            check_version(db)
        except BaseException:
            db.close()
            raise
        return db

    @property
    def _remedy(self) -> str:
        return f"Mend them, and see what is lost, by `{REPAIR} {self._partition}`."

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (*DAMAGE, OSError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            reason = getattr(error, "strerror", None) or error  # without the path, which is nobody's business
            said = f"The live changes of {self._partition} cannot be kept or read: {reason}."
            if code in _DISK or (isinstance(error, OSError) and error.errno in _DISK_OS):
                raise NotKept(said) from error
            raise JournalDamaged(f"{said} {self._remedy}") from error


def _empty() -> sqlite3.Connection:
    db = connect(":memory:")
    create(db)
    return db


def _supersede(db: sqlite3.Connection, seq: int, product_id: str, attributes: str | None) -> None:
    """Make this the product's last change, and remove the images and vectors of the one before."""
    db.execute("DELETE FROM products WHERE product_id = ?", (product_id,))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    db.execute(INSERT["products"], (seq, product_id, made, attributes))
