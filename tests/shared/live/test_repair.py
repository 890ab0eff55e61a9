"""Journals of the first format are upgraded without loss, and damaged ones keep each row that proves whole."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.live.journal import Journal
from shared.live.reading import LiveImage, Pins
from shared.live.repair import repair
from tests.support.snapshots import HOCKEY

# The first format, and changes in it.
FIRST = """
PRAGMA journal_mode = WAL;
CREATE TABLE clock (
    journal TEXT NOT NULL, seq INTEGER NOT NULL, availability INTEGER NOT NULL, pins INTEGER NOT NULL
);
INSERT INTO clock VALUES ('0123456789abcdef', 7, 3, 4);
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
PRAGMA user_version = 1;
INSERT INTO unavailable VALUES ('é'), ('q');
INSERT INTO pins VALUES ('p', '["a", "é"]', '[]'), ('damaged', '{[', '[]');
INSERT INTO products VALUES ('deleted', 5, 'then', NULL), ('put', 6, 'now', '{"name": "é"}');
INSERT INTO images VALUES (6, 0, 'i', 'http://x/i', x'0001ff');
INSERT INTO vectors VALUES (6, 0, 'net', x'0000803f');
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, HOCKEY)


@pytest.fixture
def first(journal: Journal) -> Journal:
    """A journal of the first format, with one damaged row."""
    journal.path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(journal.path)) as db:
        db.executescript(FIRST)
    return journal


def put(journal: Journal, name: str) -> int:
    images = [LiveImage(f"i{n}", "", bytes([n]) * 6000) for n in range(2)]
    return journal.put(name, {"name": name}, images, "net", np.ones((2, 3), np.float32))


def changed(journal: Journal) -> list[str]:
    with journal.reading() as reading:
        return [change.product_id for change in reading.changes()]


@pytest.mark.parametrize("writer", [False, True])
def test_a_journal_of_the_first_format_is_upgraded_without_loss(first: Journal, writer: bool) -> None:
    watching = Journal(first.path.parents[2], HOCKEY)
    watching.state()
    if writer:
        first.pin("p", Pins(("a", "é")))
    with first.reading() as reading:
        clock = reading.clock()
        assert (clock.journal, clock.seq) == ("0123456789abcdef", 7 + writer)
        assert reading.unavailable() == {"é", "q"}
        assert reading.pins() == {"p": Pins(("a", "é"))}
        changes = [(one.product_id, one.seq, one.made, one.attributes) for one in reading.changes()]
        assert changes == [("deleted", 5, "then", None), ("put", 6, "now", {"name": "é"})]
        assert reading.addresses(6) == [("i", "http://x/i")]
        assert reading.data(6, 0) == reading.picture("http://x/i") == b"\x00\x01\xff"
        assert reading.vectors(6, "net")[0].tolist() == [1.0]
        assert reading.damage == ["the pins of product 'damaged'"]
    assert first.drop(["put"]) == 1
    with closing(sqlite3.connect(first.path)) as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("images", "vectors")] == [(0,)] * 2
    watching.close()


def test_a_backup_of_the_first_format_is_put_back(first: Journal, tmp_path: Path) -> None:
    backup = first.path.rename(tmp_path / "backup")
    put(first, "p")
    found = repair(first, backup)
    assert (found.changes, found.pins, found.unavailable, len(found.damage)) == (2, 1, 2, 2)
    assert changed(first) == ["deleted", "put"]


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("UPDATE images SET data = x'00' WHERE seq = 2 AND place = 1", "image 1 of change 2"),
        ("UPDATE images SET image_id = 'x' WHERE seq = 2 AND place = 0", "image 0 of change 2"),
        ("DELETE FROM images WHERE seq = 2 AND place = 1", "rows of images, which are missing"),
        ("UPDATE products SET made = 'x' WHERE seq = 2", "change 2 of product 'b'"),
    ],
)
def test_a_change_is_kept_whole_or_named_as_lost(journal: Journal, statement: str, lost: str) -> None:
    for name in "abc":
        put(journal, name)
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as db:
        db.executescript("DROP TRIGGER images_DELETE; PRAGMA foreign_keys = OFF;")
        db.execute(statement)
    damaged = journal.path.read_bytes()
    assert repair(journal, dry=True).copy is None
    assert journal.path.read_bytes() == damaged
    found = repair(journal)
    assert (found.changes, found.damage[0], lost in found.damage) == (2, "change 2 of product 'b'", True)
    assert changed(journal) == ["a", "c"]
    assert found.copy
    assert found.copy.read_bytes() == damaged
    assert repair(journal).damage == []
    with journal.reading() as reading:
        assert (reading.data(3, 1), len(reading.vectors(3, "net"))) == (b"\x01" * 6000, 2)


def test_a_damaged_vector_is_named_and_made_again(journal: Journal) -> None:
    put(journal, "a")
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as db:
        db.execute("UPDATE vectors SET vector = x'00' WHERE place = 1")
    with journal.reading() as reading:
        assert reading.vectors(1, "net").keys() == {0}
        assert reading.damage == ["a vector of image 1 of change 1"]
    journal.embedded(1, 1, "net", np.ones(3, np.float32))
    with journal.reading() as reading:
        assert (reading.vectors(1, "net").keys(), reading.damage) == ({0, 1}, [])


def test_rows_on_both_sides_of_a_damaged_page_are_kept(journal: Journal) -> None:
    journal.set_available([f"a product with a long name {n:04}" for n in range(2000)])
    pages = bytearray(journal.path.read_bytes())
    middle = pages.find(b"a product with a long name 1000") // 4096 * 4096
    pages[middle : middle + 4096] = bytes(4096)
    journal.path.write_bytes(pages)
    found = repair(journal)
    assert 1500 < found.unavailable < 2000
    with journal.reading() as reading:
        assert len(reading.unavailable()) == found.unavailable
        assert {f"a product with a long name {n:04}" for n in (0, 1999)} <= reading.unavailable()


def test_what_is_not_damaged_stays_as_it_is(journal: Journal) -> None:
    with pytest.raises(ConfigError, match="no live changes"):
        repair(journal)
    put(journal, "a")
    before = journal.path.stat()
    assert repair(journal).damage == []
    assert journal.path.stat() == before
