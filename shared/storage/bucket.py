"""Buckets: the storage of a depot, behind one small protocol.

A bucket knows keys and bytes, never snapshots. Whatever goes wrong with it is a `DepotError`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.errors import DepotError

SMALL = 1024 * 1024
"""The bytes of the largest object that is read at once. A larger one is cut, and refused by who reads it."""
_MOST_LISTED = 1_000_000
Advance = Callable[[int], None]
"""Told of bytes as they are moved."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing. `change` differs once it was put anew; `modified` is by the bucket's clock."""

    key: str
    bytes: int
    modified: datetime
    change: str


@dataclass(frozen=True, slots=True)
class Held:
    """A small object's content, and the tag that a later `replace` must show."""

    data: bytes
    tag: str


class Bucket(Protocol):
    """Keys and bytes. An object is there as a whole or not at all; nobody ever sees half of one."""

    uri: str

    def read(self, key: str) -> Held | None:
        """A small object, or None if there is none. Of a larger one the first `SMALL + 1` bytes."""
        ...

    def replace(self, key: str, data: bytes, tag: str | None) -> bool:
        """Put a small object if the one there still has this tag, or if there is none (None); return whether it did."""
        ...

    def upload(self, path: Path, key: str, advance: Advance) -> None:
        """Put a file of any size, in place of the object that is there."""
        ...

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """An object's bytes from `start` on, in pieces; none if it ends before that. Raises `KeyError` if there is no
        such object."""
        ...

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins so."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...


def listed(bucket: Bucket, prefix: str) -> Iterator[Entry]:
    """All objects whose key begins so. Raises `DepotError` where they are too many to be a depot's."""
    for number, entry in enumerate(bucket.entries(prefix)):
        if number >= _MOST_LISTED:
            raise DepotError(f"{bucket.uri}/{prefix} has more than {_MOST_LISTED:,} objects. Remove what is not yours.")
        yield entry
