"""Keep fetched bytes and vectors from run to run, so that only changed images are done again.

<data>/cache/cache.sqlite    per URL: validators and content hash; per content hash: stats, and vector per network
<data>/cache/images/ab/..    the bytes, by content hash, so that another network need not fetch them again
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from indexer.ingest.download import Validators
from indexer.ingest.picture_stats import PictureStats
from shared.errors import ConfigError
from shared.index.product_table import ProductImage
from shared.storage.files import path_of
from shared.vectors.unit import Vectors

_BLOCK = 1000  # keys that are asked for at once
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fetched (
    url TEXT PRIMARY KEY, etag TEXT NOT NULL, last_modified TEXT NOT NULL, content TEXT NOT NULL,
    good TEXT NOT NULL DEFAULT '', failed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    fingerprint TEXT, content TEXT, vector BLOB NOT NULL, PRIMARY KEY (fingerprint, content)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (
    content TEXT PRIMARY KEY, width INTEGER NOT NULL, height INTEGER NOT NULL, contrast INTEGER NOT NULL,
    thumbnail BLOB NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Known:
    """The cache's entry of a URL. `content` is the SHA-256 of the bytes last fetched, `good` of the last bytes that
    were a usable picture ("" if there were none); `failed`: the last run could not use the URL."""

    validators: Validators
    content: str
    good: str
    failed: bool


def content_hash(data: bytes) -> str:
    """The name of an image's content, wherever it came from."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path) -> bytes:
    """Read a file's bytes. Raises `ConfigError` if it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # no path holds a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"The file {str(path)!r} cannot be read: {reason}.") from error


class Cache:
    """A cache that one run opens and uses from one thread; several runs may share the file."""

    def __init__(self, data: Path) -> None:
        self._images = data / "cache" / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        path = data / "cache" / "cache.sqlite"
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)  # each statement lasts at once
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise sqlite3.DatabaseError(f"its version is {version}, and this package knows {_VERSION}")
            self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigError(f"The cache {path} cannot be opened ({error}). Delete it: it is only a cache.") from error

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def known(self, urls: Iterable[str]) -> dict[str, Known]:
        """The last fetch of each of those URLs that was ever fetched."""
        query = "SELECT url, etag, last_modified, content, good, failed FROM fetched WHERE url IN "
        return {
            url: Known(Validators(etag, modified), content, good, bool(failed))
            for url, etag, modified, content, good, failed in self._rows(query, urls)
        }

    def record(self, url: str, validators: Validators, content: str) -> None:
        """Note that bytes were fetched; `settle` says whether they can be used."""
        self._db.execute(
            "INSERT INTO fetched (url, etag, last_modified, content) VALUES (?, ?, ?, ?) ON CONFLICT (url) DO UPDATE "
            "SET etag = excluded.etag, last_modified = excluded.last_modified, content = excluded.content",
            (url, validators.etag, validators.last_modified, content),
        )

    def settle(self, urls: Iterable[str], *, usable: bool) -> None:
        """Note whether those URLs' images could be used."""
        change = "good = content, failed = 0" if usable else "failed = 1"
        self._change(f"UPDATE fetched SET {change} WHERE url = ?", ((url,) for url in urls))

    def forget(self, urls: Iterable[str]) -> None:
        """Forget those URLs, whose images are gone."""
        self._change("DELETE FROM fetched WHERE url = ?", ((url,) for url in urls))

    def path(self, content: str) -> Path:
        """The file with the bytes of that content, if it is there."""
        return self._images / content[:2] / content

    def keep(self, data: bytes) -> str:
        """Keep an image's bytes and return their content hash."""
        content = content_hash(data)
        path = self.path(content)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_name(f"{content}.{os.getpid()}")
            temporary.write_bytes(data)
            temporary.replace(path)
        return content

    def has_bytes(self, content: str) -> bool:
        return content != "" and self.path(content).exists()

    def picture(self, image: ProductImage) -> bytes:
        """A picture's bytes, from here or from the file that it came from; b"" if neither has them.

        Raises `ConfigError` where that file has gone.
        """
        if image.image_url.startswith("file:"):
            return read_file(path_of(image.image_url))
        known = self.known([image.image_url]).get(image.image_url)
        return (known and self.bytes(known.good)) or b""

    def bytes(self, content: str) -> bytes | None:
        """The bytes of that content, or None if they are not kept or are damaged."""
        with suppress(OSError):
            data = self.path(content).read_bytes()
            if content_hash(data) == content:
                return data
        return None

    def stats(self, content: str) -> PictureStats | None:
        """The measurements of that content; None if it is no picture, or was decoded before measurements were kept."""
        query = "SELECT width, height, contrast, thumbnail FROM pictures WHERE content = ?"
        row = self._db.execute(query, (content,)).fetchone()
        return PictureStats(*row) if row else None

    def put_stats(self, content: str, stats: PictureStats) -> None:
        fields = (content, stats.width, stats.height, stats.contrast, stats.thumbnail)
        self._db.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?)", fields)

    def embedded(self, fingerprint: str, contents: Iterable[str]) -> set[str]:
        """The contents among these that have a vector."""
        query = "SELECT content FROM vectors WHERE fingerprint = ? AND content IN "
        return {content for (content,) in self._rows(query, contents, fingerprint)}

    def has_vector(self, fingerprint: str, content: str) -> bool:
        return content in self.embedded(fingerprint, [content])

    def vectors(self, fingerprint: str, contents: Collection[str], dimension: int) -> Vectors:
        """The vectors of those contents, which must all be there: `(n, dimension)`."""
        query = "SELECT content, vector FROM vectors WHERE fingerprint = ? AND content IN "
        vectors, wanted = np.empty((len(contents), dimension), np.float32), iter(contents)
        for at in range(0, len(contents), _BLOCK):
            block = list(islice(wanted, _BLOCK))
            found = dict(self._rows(query, block, fingerprint))
            vectors[at : at + _BLOCK] = [np.frombuffer(found[content], np.float32) for content in block]
        return vectors

    def put_vectors(self, fingerprint: str, contents: Iterable[str], vectors: Vectors) -> None:
        """Keep the vectors of those contents."""
        rows = ((fingerprint, content, vector.tobytes()) for content, vector in zip(contents, vectors, strict=True))
        self._change("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def _rows(self, query: str, keys: Iterable[str], *given: str) -> Iterator[Any]:
        """The rows that the query, which ends with `IN`, finds for those keys, block by block."""
        left = iter(keys)
        while block := list(islice(left, _BLOCK)):
            yield from self._db.execute(f"{query} (SELECT value FROM json_each(?))", (*given, json.dumps(block)))

    def _change(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Commit all changes within, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.executemany(statement, rows)
