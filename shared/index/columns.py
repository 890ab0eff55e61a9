"""The catalog's other columns, of every row of a snapshot, so that a filter is a few operations of numpy.

    columns.jsonl        a line with the names; then, for each, a line with its distinct values, in the catalog's order
    columns.codes.npy    int32 (columns, rows): which of its column's values a row has

A row that lacks a column has "" there.
"""

import json
import mmap
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadQuestion, SnapshotError
from shared.index.filters import Condition, Filter, folded, number
from shared.storage.arrays import read_array, write_array
from shared.storage.files import write_synced

_MASKS = 16


@dataclass(frozen=True)
class Column:
    """The distinct values of a column, and which of them each row has: `codes` `(rows,)`."""

    name: str
    values: Sequence[str]
    codes: NDArray[np.int32]

    @cached_property
    def numbers(self) -> NDArray[np.float64] | None:
        """The values as numbers, NaN for the empty one; None if one of the others is not a number."""
        found = np.full(len(self.values), np.nan)
        for at, text in enumerate(map(str.strip, self.values)):
            value = number(text)
            if value is not None:
                found[at] = value
            elif text:
                return None
        return None if np.isnan(found).all() else found

    def mask(self, condition: Condition) -> NDArray[np.bool_]:
        """The rows that the condition admits: `(rows,)`. Raises `BadQuestion`."""
        hits = np.zeros(len(self.values), np.bool_)
        for wanted in condition.values:
            if isinstance(wanted, str):
                hits[self._places(wanted)] = True
            elif self.numbers is None:
                raise BadQuestion(f"filter has a range for {self.name!r:.80}, whose values are not all numbers.")
            else:
                hits |= (self.numbers >= wanted.low) & (self.numbers <= wanted.high)
        return np.asarray(hits.take(self.codes, mode="clip"))

    def _places(self, text: str) -> list[int]:
        """The places of the values that are this folded text, whatever their case."""
        hashes, order = self._by_hash
        begin, end = np.searchsorted(hashes, hash(text), "left"), np.searchsorted(hashes, hash(text), "right")
        return [at for at in order[begin:end].tolist() if folded(self.values[at]) == text]

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The hashes of the folded values, sorted, and their places: 16 bytes a value."""
        hashes = np.fromiter((hash(folded(value)) for value in self.values), np.int64, len(self.values))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order


class Columns(ABC):
    """All columns of the rows. Columns and masks are made once and kept. Safe to use from many threads."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.column = lru_cache(None)(self._column)
        self.mask = lru_cache(_MASKS)(self._mask)

    @abstractmethod
    def _column(self, name: str) -> Column:
        """Make one column. Raises `BadQuestion` if there is none of that name."""

    def _mask(self, wanted: Filter) -> NDArray[np.bool_]:
        """The rows that the filter admits: `(rows,)`. Raises `BadQuestion`."""
        first, *others = wanted.conditions
        admitted = self.column(first.column).mask(first)
        for condition in others:
            admitted &= self.column(condition.column).mask(condition)
        admitted.flags.writeable = False  # others will get it too
        return admitted


class StoredColumns(Columns):
    """Columns in the two files: `text` and `codes` are their contents."""

    def __init__(self, text: bytes | mmap.mmap, codes: NDArray[np.int32]) -> None:
        self.text, self.codes = text, codes
        self._begins = [0]
        while (end := text.find(b"\n", self._begins[-1])) >= 0:
            self._begins.append(end + 1)
        super().__init__(self._line(0))

    def _column(self, name: str) -> Column:
        if name not in self.names:
            known = ", ".join(self.names) or "none"
            raise BadQuestion(f"filter has the column {name!r:.80}, which the catalog has not. Its columns: {known}.")
        at = self.names.index(name)
        return Column(name, self._line(at + 1), self.codes[at])

    def _line(self, number: int) -> Sequence[str]:
        begin, end = self._begins[number : number + 2]
        found: Sequence[str] = json.loads(self.text[begin:end])
        return found


def columns_of(rows: Iterable[Mapping[str, str]]) -> StoredColumns:
    """The columns of rows of attributes."""
    found: dict[str, tuple[dict[str, int], array[int]]] = {}
    count = 0
    for row in rows:
        for name, value in row.items():
            values, codes = found.setdefault(name, ({}, array("i")))
            _fill(values, codes, count)
            codes.append(values.setdefault(value, len(values)))
        count += 1
    for values, codes in found.values():
        _fill(values, codes, count)
    lines = [list(found), *(list(values) for values, _ in found.values())]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    table = np.array([codes for _, codes in found.values()], np.int32).reshape(len(found), count)
    return StoredColumns(text.encode(), table)


def _fill(values: dict[str, int], codes: "array[int]", count: int) -> None:
    """Give the rows up to there the empty value."""
    if len(codes) < count:
        codes.extend([values.setdefault("", len(values))] * (count - len(codes)))


def write_columns(columns: StoredColumns, folder: Path) -> None:
    """Write the two files."""
    write_synced(folder / "columns.jsonl", columns.text[:])
    write_array(folder / "columns.codes.npy", columns.codes)


def open_columns(folder: Path, rows: int) -> StoredColumns:
    """Map the two files. Raises `SnapshotError` if they are not those of so many rows."""
    codes = read_array(folder / "columns.codes.npy", np.int32, 2)
    with (folder / "columns.jsonl").open("rb") as file:
        columns = StoredColumns(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), codes)
    if codes.shape != (len(columns.names), rows):
        raise SnapshotError(f"The column files in {folder} do not belong to its {rows} rows.")
    return columns
