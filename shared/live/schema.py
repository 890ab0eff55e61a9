"""The tables of a journal, and the checksums that show damage.

Each row has a CRC-32 of its table's name and its values. A row that is gone is missed by a sum of CRCs: the clock has
those of products, unavailable ones and pins; a product has those of its images and vectors.
"""

import json
import sqlite3
import zlib
from pathlib import Path

VERSION = 2
FIRST = 1  # the format without checksums
_UNPROVEN = -1  # the checksum of a row of the first format that was damaged already
DAMAGE = (sqlite3.Error, UnicodeDecodeError)  # the second where the message quotes a damaged text
_PATIENCE = 10.0
# Table -> how a row is inserted. What must be read with every look stands before the bytes, which may fill many pages.
INSERT = {
    "unavailable": "INSERT OR IGNORE INTO unavailable VALUES (?, ?)",
    "pins": "INSERT INTO pins VALUES (?1, ?2, ?3, checksum('pins', ?1, ?2, ?3))",
    "products": "INSERT INTO products VALUES (?1, ?2, ?3, ?4, checksum('products', ?1, ?2, ?3, ?4), 0, 0)",
    "images": (
        "INSERT INTO images VALUES (?1, ?2, ?3, ?4, checksum(?5), checksum('images', ?1, ?2, ?3, ?4, checksum(?5)), ?5)"
    ),
    "vectors": "INSERT INTO vectors VALUES (?1, ?2, ?3, checksum('vectors', ?1, ?2, ?3, checksum(?4)), ?4)",
}
_TABLES = """
CREATE TABLE clock (
    journal TEXT NOT NULL, seq INTEGER NOT NULL, availability INTEGER NOT NULL, pins INTEGER NOT NULL,
    products_sum INTEGER NOT NULL, unavailable_sum INTEGER NOT NULL, pins_sum INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE unavailable (product_id TEXT PRIMARY KEY, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pins (
    product_id TEXT PRIMARY KEY, pinned TEXT NOT NULL, blocked TEXT NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE products (
    seq INTEGER PRIMARY KEY, product_id TEXT NOT NULL UNIQUE, made TEXT NOT NULL, attributes TEXT,
    crc INTEGER NOT NULL, images_sum INTEGER NOT NULL, vectors_sum INTEGER NOT NULL
);
CREATE TABLE images (
    seq INTEGER NOT NULL REFERENCES products (seq) ON DELETE CASCADE, place INTEGER NOT NULL,
    image_id TEXT NOT NULL, image_url TEXT NOT NULL, data_crc INTEGER NOT NULL, crc INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (seq, place)
);
CREATE TABLE vectors (
    seq INTEGER NOT NULL, place INTEGER NOT NULL, fingerprint TEXT NOT NULL, crc INTEGER NOT NULL,
    vector BLOB NOT NULL, PRIMARY KEY (seq, place, fingerprint),
    FOREIGN KEY (seq, place) REFERENCES images (seq, place) ON DELETE CASCADE
);
"""


def checksum(*values: object) -> int:
    """The CRC-32 of values: texts, as they are or in UTF-8, bytes, numbers and None."""
    parts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return zlib.crc32(b"\0".join(parts))


def connect(path: Path | str) -> sqlite3.Connection:
    """Connect to a journal's file, which must be there. Texts are read as bytes: damaged ones may be no UTF-8."""
    name = path if isinstance(path, str) else f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(name, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, uri=True)
    try:
        db.text_factory = bytes
        db.create_function("checksum", -1, checksum, deterministic=True)
        db.execute("PRAGMA cell_size_check = ON")  # SQLite sees damaged pages as it reads them
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db


def create(db: sqlite3.Connection) -> None:
    """Make the tables in an empty file."""
    db.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {_SCHEMA} {_NEW_CLOCK} COMMIT")


def seal(db: sqlite3.Connection) -> None:
    """Give the clock its checksum, as the last step of a change."""
    db.execute(_SEAL)


def check_version(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` where the file has a format that this program does not read."""
    if (found := version(db)) != VERSION:
        raise sqlite3.DatabaseError(f"it has format {found}, this program reads format {VERSION}")


def version(db: sqlite3.Connection) -> int:
    """The format of the file; 0 if it is empty."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def upgrade(db: sqlite3.Connection) -> None:
    """Give a journal of the first format checksums, in one transaction. Its readers go on meanwhile.

    A row that cannot be read as what it is stays, as a damaged one.
    """
    db.create_function("vouched", -1, _vouched, deterministic=True)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA legacy_alter_table = ON")  # no table refers to a renamed one
    db.executescript(f"BEGIN IMMEDIATE; {_UPGRADE} COMMIT")
    db.execute("PRAGMA legacy_alter_table = OFF")
    db.execute("PRAGMA foreign_keys = ON")


def _trigger(table: str, keeper: str) -> str:
    """Two triggers that keep the sum of a table's checksums."""

    def one(event: str, row: str, sign: str) -> str:
        where = f" WHERE seq = {row}.seq" if keeper == "products" else ""
        change = f"UPDATE {keeper} SET {table}_sum = {table}_sum {sign} {row}.crc{where}"
        return f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN {change}; END;"

    return one("INSERT", "NEW", "+") + one("DELETE", "OLD", "-")


def _vouched(table: str, *values: bytes | int | None) -> int:
    """The checksum of a row of the first format, whose texts come as bytes, unless it shows to be damaged."""
    try:
        texts = [value.decode() for value in values if isinstance(value, bytes)]
        for text in {"products": texts[2:], "pins": texts[1:]}.get(table, []):
            json.loads(text)
    except ValueError:
        return _UNPROVEN
    return checksum(table, *values)


# Table -> the table that has the sum. Of those that are unavailable, who may be a million, `Journal` keeps it itself.
_KEEPERS = {"products": "clock", "pins": "clock", "images": "products", "vectors": "products"}
_OLD = ("clock", "unavailable", *_KEEPERS)
_SCHEMA = _TABLES + "".join(_trigger(*names) for names in _KEEPERS.items()) + f"PRAGMA user_version = {VERSION};"
SUM_UNAVAILABLE = "UPDATE clock SET unavailable_sum = (SELECT coalesce(sum(crc), 0) FROM unavailable)"
_SEAL = (
    "UPDATE clock SET crc = "
    "checksum('clock', journal, seq, availability, pins, products_sum, unavailable_sum, pins_sum)"
)
_NEW_CLOCK = f"INSERT INTO clock VALUES (lower(hex(randomblob(8))), 0, 0, 0, 0, 0, 0, 0); {_SEAL};"
_UPGRADE = f"""
{"".join(f"ALTER TABLE {table} RENAME TO first_{table};" for table in _OLD)}
{_SCHEMA}
INSERT INTO clock SELECT journal, seq, availability, pins, 0, 0, 0, 0 FROM first_clock;
INSERT INTO unavailable SELECT product_id, vouched('unavailable', CAST(product_id AS BLOB)) FROM first_unavailable;
INSERT INTO pins SELECT product_id, pinned, blocked,
    vouched('pins', CAST(product_id AS BLOB), CAST(pinned AS BLOB), CAST(blocked AS BLOB)) FROM first_pins;
INSERT INTO products SELECT seq, product_id, made, attributes,
    vouched('products', seq, CAST(product_id AS BLOB), CAST(made AS BLOB), CAST(attributes AS BLOB)), 0, 0
    FROM first_products;
INSERT INTO images SELECT seq, place, image_id, image_url, checksum(data), vouched('images', seq, place,
    CAST(image_id AS BLOB), CAST(image_url AS BLOB), checksum(data)), data FROM first_images;
INSERT INTO vectors SELECT seq, place, fingerprint,
    vouched('vectors', seq, place, CAST(fingerprint AS BLOB), checksum(vector)), vector FROM first_vectors;
{"".join(f"DROP TABLE first_{table};" for table in reversed(_OLD))}
{SUM_UNAVAILABLE};
{_SEAL};
"""
