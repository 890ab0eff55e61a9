"""LATEST: a depot's pointer to the current snapshot of a partition. It is signed as manifests are; its version grows.

    {"version": 1764098491123, "department": "371", "domain": "0341", "current": .., "previous": .., "withdrawn": [..]}
    <HMAC-SHA256 of the line above, where there is a signing key>

A depot of before has the two ids alone, one on each line: that is version 0, which is never signed.
"""

import hmac
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from shared.errors import SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import is_id
from shared.snapshot.manifest import signature
from shared.storage.bucket import SMALL

_WITHDRAWN = 100  # so many are remembered


@dataclass(frozen=True, slots=True)
class Latest:
    """The current snapshot of a partition, the one that was current before, and those that somebody went back from."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    version: int
    department: str
    domain: str
    current: str
    previous: str | None = None
    withdrawn: tuple[str, ...] = ()

    def to_bytes(self, key: str | None = None) -> bytes:
        """The content of LATEST, signed if there is a key."""
        line = json.dumps(asdict(self)).encode() + b"\n"
        return line + signature(line, key) if key else line

    @classmethod
    def from_bytes(cls, data: bytes, partition: Partition, key: str | None = None) -> "Latest":
        """Parse LATEST. Raises `SnapshotError` if it names no snapshot, is of another partition, or, where a key is
        given, is not signed with it."""
        where, again = f"The depot's LATEST of {partition}", "Publish again: make publish."
        line, _, signed = data.partition(b"\n")
        is_old = not line.startswith(b"{")
        if key and not is_old:
            if not signed.strip():
                raise SnapshotError(f"{where} is not signed, and SIMILARITY_SIGNING_KEY asks for it. {again}")
            if not hmac.compare_digest(signed.strip(), signature(line + b"\n", key).strip()):
                raise SnapshotError(f"{where} is signed with another key than SIMILARITY_SIGNING_KEY. {again}")
        try:
            latest = cls._old(data, partition) if is_old else TypeAdapter(cls).validate_json(line)
            ids = (latest.current, latest.previous or latest.current, *latest.withdrawn)
            if len(data) > SMALL or not all(map(is_id, ids)) or latest.version < (0 if is_old else 1):
                raise ValueError
        except (ValueError, TypeError) as error:
            raise SnapshotError(f"{where} does not name a snapshot, or is damaged. {again}") from error
        if key and is_old:
            raise SnapshotError(f"{where} is an old one, which is not signed. Publish once more: make publish.")
        if (latest.department, latest.domain) != (partition.department, partition.domain):
            raise SnapshotError(f"{where} is one of {latest.department[:64]}/{latest.domain[:64]}. {again}")
        return latest

    @classmethod
    def readable(cls, data: bytes | None, partition: Partition, key: str | None = None) -> "Latest | None":
        """Parse LATEST, or return None if there is none, or none to believe."""
        with suppress(SnapshotError):
            return cls.from_bytes(data, partition, key) if data is not None else None
        return None

    @classmethod
    def after(cls, before: "Latest | None", partition: Partition, snapshot_id: str, withdrawn: list[str]) -> "Latest":
        """The version that follows `before`, with that snapshot as the current one.

        Its number is the time in milliseconds, or one more than the one before. So it is higher than any that a host
        has seen, also where the depot was restored or damaged and this host has seen none.
        """
        stays = before and before.current == snapshot_id
        previous = (before.previous if stays else before.current) if before else None
        version = max(time.time_ns() // 1_000_000, before.version + 1 if before else 1)
        kept = tuple(each for each in withdrawn if each != snapshot_id)[-_WITHDRAWN:]
        return cls(version, partition.department, partition.domain, snapshot_id, previous, kept)

    @classmethod
    def _old(cls, data: bytes, partition: Partition) -> "Latest":
        current, previous = (*data.decode("ascii").split(), None)[:2]
        return cls(0, partition.department, partition.domain, current or "", previous)
