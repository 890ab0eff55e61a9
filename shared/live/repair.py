"""The repair of a journal: each row that proves whole goes into a new file, and what does not is named.

The damaged file is kept beside it. Servers may run meanwhile: changes wait, and the new file is seen at once.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from shutil import chown, copymode
from tempfile import TemporaryDirectory
from typing import Any

from shared.errors import ConfigError
from shared.live.journal import Journal
from shared.live.mark import Mark, read_mark, write_mark
from shared.live.reading import Change, Reading
from shared.live.schema import (
    DAMAGE,
    FIRST,
    INSERT,
    SUM_UNAVAILABLE,
    VERSION,
    checksum,
    connect,
    create,
    seal,
    upgrade,
    version,
)
from shared.storage.files import copy_synced, sync_folder


@dataclass(frozen=True, slots=True)
class Findings:
    """A journal's whole changes of products, pins, and unavailable products, in numbers, and what is damaged or lost,
    in words. `copy` is the file as it was, where it was replaced."""

    changes: int
    pins: int
    unavailable: int
    damage: Sequence[str]
    copy: Path | None = None


def repair(journal: Journal, backup: Path | None = None, *, dry: bool = False) -> Findings:
    """Repair a journal, or put a backup in its place; if `dry`, only look.

    A journal that is whole stays as it is. The numbers of changes go on after the last one that was ever given. Raises
    `ConfigError`, `OSError` or `sqlite3.Error` where it cannot be done; then nothing has changed.
    """
    path, mark = journal.path, read_mark(journal.mark_path)
    if not (backup or mark or path.exists()):
        raise ConfigError(f"There are no live changes in {path}.")
    with journal.locked(), TemporaryDirectory(dir=path.parent, prefix=".repair.") as folder, ExitStack() as stack:
        old, new = Path(folder, "old.sqlite"), Path(folder, "new.sqlite")
        with suppress(*DAMAGE):
            _hold(path, stack)
        if backup or path.exists():
            _copy(backup or path, old)
        db, error = _open(old)
        with closing(db):
            found, after = _rebuild(_Salvage(db, mark, error), new)
        if dry or not (backup or found.damage):
            return found
        kept = _replace(path, new)
        write_mark(journal.mark_path, after)
        return replace(found, copy=kept)


class _Salvage(Reading):
    """A damaged journal, read as far as that goes: every table from both ends, and without a clock if need be."""

    def __init__(self, db: sqlite3.Connection, mark: Mark | None, error: str) -> None:
        self.mark, self._error = mark, error
        super().__init__(db, mark)
        self.damage += [said for said in (self.objection, error) if said]

    def images(self, change: Change) -> list[tuple[str, str, bytes]] | None:
        """Id, address and bytes of each image that a change put; None if one of them is not whole."""
        if change.attributes is None:
            return []
        addresses = self.addresses(change.seq)
        data = [self.data(change.seq, place) for place in range(len(addresses))]
        whole = [(*names, image) for names, image in zip(addresses, data, strict=True) if image is not None]
        return whole if whole and len(whole) == len(data) else None

    def listed(self) -> set[tuple[str, int]]:
        """Product and number of each change, as the index has them, which may be whole where the table is not."""
        query = "SELECT product_id, seq FROM products INDEXED BY sqlite_autoindex_products_1"
        return {(name.decode(errors="replace"), seq) for name, seq in self._rows(query)}

    def disorder(self) -> list[str]:
        """The first faults that SQLite finds in the file."""
        found = [bytes(row[0]).decode(errors="replace") for row in self._tried("PRAGMA integrity_check(3)")]
        return [f"the order of the file: {fault}" for fault in found if fault != "ok"]

    def _rows(self, query: str, *arguments: object) -> Iterator[Sequence[Any]]:
        found = dict.fromkeys(self._tried(f"{query} ORDER BY 1, 2", *arguments))
        return iter(found | dict.fromkeys(self._tried(f"{query} ORDER BY 1 DESC, 2 DESC", *arguments)))

    def _tried(self, query: str, *arguments: object) -> list[Sequence[Any]]:
        """The rows of a query, until one cannot be read."""
        rows: list[Sequence[Any]] = []
        try:
            rows.extend(self._db.execute(query, arguments))
        except DAMAGE as error:
            if not self._error:
                self.damage.append(f"what cannot be read: {error}")
        return rows

    def _sealed(self) -> tuple[Any, ...]:
        try:
            return super()._sealed()
        except DAMAGE:
            mark = self.mark or Mark(token_hex(8), 0)
            if "the clock" not in self.damage:
                self.damage.append("the clock")
            return (mark.journal, mark.seq, 0, 0, None, None, None)

    def _kept(self, column: str, seq: int) -> int | None:
        with suppress(*DAMAGE):
            return super()._kept(column, seq)
        return None


def _rebuild(source: _Salvage, path: Path) -> tuple[Findings, Mark]:
    """Write what is whole into a new file, as one more change; also return the mark of that."""
    path.touch()
    with closing(connect(path)) as db:
        create(db)
        db.execute("BEGIN")
        changes, pins, unavailable = source.changes(), source.pins(), source.unavailable()
        whole = {(change.product_id, change.seq) for change in changes if _copy_change(source, change, db)}
        listed = source.listed() | {(change.product_id, change.seq) for change in changes}
        rows = (
            (name, *(json.dumps(ids, ensure_ascii=False) for ids in (own.pinned, own.blocked)))
            for name, own in pins.items()
        )
        db.executemany(INSERT["pins"], rows)
        db.executemany(INSERT["unavailable"], ((name, checksum("unavailable", name)) for name in unavailable))
        db.execute(SUM_UNAVAILABLE)
        clock = source.clock()
        given = source.mark.seq if source.mark and source.mark.journal == clock.journal else 0
        seq = max([clock.seq, given, *(seq for _, seq in listed)]) + 1
        db.execute("UPDATE clock SET journal = ?, seq = ?, availability = ?, pins = ?", (clock.journal, seq, seq, seq))
        seal(db)
        db.execute("COMMIT")
    lost = [f"change {seq} of product {name!r:.80}" for name, seq in sorted(listed - whole, key=lambda one: one[1])]
    damage = [*dict.fromkeys([*lost, *source.damage, *source.disorder()])]
    return Findings(len(whole), len(pins), len(unavailable), damage), Mark(clock.journal, seq)


def _copy_change(source: _Salvage, change: Change, db: sqlite3.Connection) -> bool:
    """Copy a change with its images and vectors if it is whole. A vector that is not is made again by a server."""
    images = source.images(change)
    if images is None:
        return False
    text = None if change.attributes is None else json.dumps(dict(change.attributes), ensure_ascii=False)
    db.execute(INSERT["products"], (change.seq, change.product_id, change.made, text))
    db.executemany(INSERT["images"], ((change.seq, place, *image) for place, image in enumerate(images)))
    vectors = ((change.seq, place, network, raw.tobytes()) for place, network, raw in source.all_vectors(change.seq))
    db.executemany(INSERT["vectors"], vectors)
    return True


def _hold(path: Path, stack: ExitStack) -> None:
    """Read a file until the end, so that nobody ends its write-ahead log meanwhile, nor, later, that of the new one."""
    db = stack.enter_context(closing(connect(path)))
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _open(path: Path) -> tuple[sqlite3.Connection, str]:
    """Connect to the copy of a journal; to nothing where it is no journal, and say why."""
    with ExitStack() as stack:
        try:
            db = stack.enter_context(closing(connect(path)))
            if version(db) == FIRST:
                upgrade(db)
            found = version(db)
        except DAMAGE as error:
            return connect(":memory:"), f"all of it: {error}"
        if found > VERSION:
            raise ConfigError("The journal has a later format than this program reads. Use the program that wrote it.")
        stack.pop_all()
        return db, ""


def _copy(path: Path, to: Path) -> None:
    """Copy a file of SQLite's with its write-ahead log."""
    copy_synced(path, to)
    if (log := path.with_name(f"{path.name}-wal")).exists():
        copy_synced(log, to.with_name(f"{to.name}-wal"))


def _replace(path: Path, new: Path) -> Path | None:
    """Put a new file in the place of a journal, with its owner and mode. Returns the copy of the old one."""
    copy = path.with_name(f"{path.stem}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.damaged")
    there = path.exists()
    if there:
        _copy(path, copy)
        copymode(path, new)
        chown(new, path.stat().st_uid, path.stat().st_gid)
    for rest in ("-wal", "-shm"):  # first, for SQLite would take them for parts of the new file
        path.with_name(path.name + rest).unlink(missing_ok=True)
    new.replace(path)
    sync_folder(path.parent)
    return copy if there else None
