"""Tell how alike products are by the catalog's columns: those that repeat, such as category, style, brand or colour.

Two products are the more alike, the more values they share; a rarer value says more (as in inverse document frequency).
Rankings are measured by the normalised discounted cumulative gain of the first 10 hits (Jarvelin and Kekalainen, ACM
TOIS 20(4), 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.index.columns import Column, Columns
from shared.index.row_groups import RowGroups
from shared.vectors.unit import Vectors

DEPTH = 10
_MOST_COLUMNS = 8
_FEW = 8  # products with one value, on the average
_ENOUGH = 20  # products that share a value with another one
_FILLED, _SHARED, _LARGEST = 0.6, 0.5, 0.5
_CELLS = 1 << 24  # products compared at once


def telling_columns(columns: Columns, groups: RowGroups, wanted: Sequence[str] = ()) -> list[Column]:
    """The columns that say which products are alike: those that are `wanted`, or else each text that most products have
    and many share. `columns` are those of the rows. Raises `ConfigError` if there is no such column."""
    for name in wanted:
        if name not in columns.names:
            known = ", ".join(columns.names) or "none"
            raise ConfigError(f"ALIKE names the column {name!r:.80}, which the catalog has not. Its columns: {known}.")
    if wanted:
        return [columns.column(name) for name in wanted]
    return [column for column in map(columns.column, columns.names) if _tells(column, groups)][:_MOST_COLUMNS]


def style_columns(columns: Columns, groups: RowGroups, wanted: Sequence[str] = ()) -> list[Column]:
    """The columns that keep few products together, as a style does: of those `wanted`, or else of all texts. Most
    products may be the only ones of their value."""
    found = [columns.column(name) for name in wanted or columns.names]
    return [column for column in found if column.numbers is None and _keeps_together(column, groups)]


def filled_in(column: Column, groups: RowGroups) -> NDArray[np.bool_]:
    """Tell which products have a value of a column: `(products,)`."""
    return np.array([bool(value.strip()) for value in column.values])[column.codes[groups.first]]


def few_together(codes: NDArray[np.int32]) -> bool:
    """Tell whether a column keeps few products together, as a style does; `codes` are their values."""
    return len(codes) <= _FEW * len(np.unique(codes))


@dataclass(frozen=True, slots=True)
class Likeness:
    """The values of telling columns: `codes` `(columns, products)`, and what sharing each value is `worth`, in bits."""

    codes: NDArray[np.int32]
    worth: Sequence[Vectors]

    @classmethod
    def of(cls, columns: Sequence[Column], first_rows: NDArray[np.integer]) -> "Likeness":
        """Read the values of the products with those first rows."""
        codes = np.array([column.codes[first_rows] for column in columns], np.int32).reshape(-1, len(first_rows))
        counts = [np.maximum(np.bincount(of_column), 1) for of_column in codes]
        return cls(codes, [np.asarray(-np.log2(count / len(first_rows)), np.float32) for count in counts])

    def gains(self, asked: NDArray[np.integer], others: NDArray[np.integer]) -> Vectors:
        """The likeness of each asked product `(n,)` to each of some others: `(n, k)`, or `(k,)` for all the same."""
        total = np.zeros(np.broadcast_shapes((len(asked), 1), others.shape), np.float32)
        for codes, worth in zip(self.codes, self.worth, strict=True):
            total += (codes[asked][:, None] == codes[others]) * worth[codes[asked]][:, None]
        return total

    def ndcg(self, asked: NDArray[np.integer], found: NDArray[np.integer]) -> NDArray[np.float64]:
        """The measure of each asked product's hits, `found` `(n, k)`, best first: `(n,)`, NaN where none is alike."""
        every, block = np.arange(self.codes.shape[1]), max(1, _CELLS // self.codes.shape[1])
        depth = min(DEPTH, found.shape[1])
        best = np.zeros(len(asked))
        for at in range(0, len(asked), block):
            some = asked[at : at + block]
            likeness = self.gains(some, every)
            likeness[np.arange(len(some)), some] = 0
            highest = -np.sort(np.partition(-likeness, depth - 1, axis=1)[:, :depth], axis=1)
            best[at : at + block] = highest @ _discount(depth)
        reached = self.gains(asked, found[:, :depth]) @ _discount(depth)
        return np.asarray(np.divide(reached, best, out=np.full(len(asked), np.nan), where=best > 0))


def _tells(column: Column, groups: RowGroups) -> bool:
    """Tell whether a column is a text that most products have, and many share."""
    if column.numbers is not None:
        return False
    codes, filled = column.codes[groups.first], filled_in(column, groups)
    sizes = np.bincount(codes[filled], minlength=len(column.values))
    if filled.mean() < _FILLED or sizes.max(initial=0) > _LARGEST * filled.sum():
        return False
    return bool((sizes[codes[filled]] > 1).mean() >= _SHARED)


def _keeps_together(column: Column, groups: RowGroups) -> bool:
    codes = column.codes[groups.first][filled_in(column, groups)]
    return few_together(codes) and int((np.bincount(codes)[codes] > 1).sum()) >= _ENOUGH


def _discount(depth: int) -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(np.arange(2, depth + 2)))
