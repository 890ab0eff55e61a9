"""The mark of a journal: its id and its last change, kept outside of it, so that an older copy in its place is noticed.

It is written after the change is on the disk, and not synced: a crash may leave a mark that is too low, which is no
cause for alarm, and never one that is too high.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

_MODE = 0o666


@dataclass(frozen=True, slots=True)
class Mark:
    """A journal's id, and the number of a change that it has."""

    journal: str
    seq: int

    def objection(self, journal: str, seq: int) -> str:
        """Say why a journal with that id and that last change is not the one that was marked; "" if it is."""
        if journal != self.journal:
            return "it is another journal than the one that took changes here before"
        if seq < self.seq:
            return f"it ends at change {seq}, but changes up to {self.seq} were made: it is an older copy, or cut off"
        return ""


def read_mark(path: Path) -> Mark | None:
    """Read a mark. One that is not there or not whole says nothing: the next change writes it again."""
    try:
        text, _, crc = path.read_text("ascii").strip().rpartition(" ")
        journal, _, seq = text.partition(" ")
        return Mark(journal, int(seq)) if crc == _crc(text) else None
    except (OSError, ValueError):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """Write a mark, in one piece of always the same length. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{mark.journal} {mark.seq:020d}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT, _MODE)
    try:
        os.pwrite(file, f"{text} {_crc(text)}\n".encode("ascii"), 0)
    finally:
        os.close(file)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"
