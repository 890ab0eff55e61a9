"""The listing of a catalog to browse: its products by ids and words, its columns, its pictures' hosts.

Read out of the product table on first use, in a second or so for 100,000 products, and kept with the open snapshot, in
some 100 bytes a product.
"""

import json
import re
import threading
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.index.filters import folded, number
from shared.index.product_table import ListedTable, attributes_of, origins_of, product_id_of

_MOST_VALUES = 50
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value, and its number of products."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of the catalog: its values and their numbers of products, most frequent first. `low` and `high` if all
    values are numbers."""

    name: str
    values: Sequence[ValueCount]
    distinct: int
    low: float | None = None
    high: float | None = None


class Listing(Protocol):
    """The products of a partition, to browse. Safe to use from many threads."""

    def all(self) -> Sequence[int] | NDArray[np.int64]:
        """The numbers of all products; the catalog need not be read for it."""
        ...

    def find(self, text: str) -> NDArray[np.int64]:
        """The numbers of the products whose id begins with the text, then of those that have a word beginning with each
        of its words; each in the catalog's order."""
        ...

    @property
    def attributes(self) -> Sequence[Attribute]:
        """The columns, in the catalog's order."""
        ...

    @property
    def origins(self) -> Sequence[str]:
        """The hosts of the pictures on the web: `https://host`, each once."""
        ...


class TableListing:
    """The listing of one table."""

    def __init__(self, table: ListedTable) -> None:
        self._table = table
        self._one_reads = threading.Lock()

    def all(self) -> Sequence[int]:
        return range(self._table.count)

    def find(self, text: str) -> NDArray[np.int64]:
        wanted = _typed(text)
        by_id = self._content.ids.beginning(wanted)
        words = [self._content.words.beginning(word) for word in _WORD.findall(wanted)]
        by_words = np.logical_and.reduce(words) & ~by_id if words else ~by_id & False
        return np.concatenate([np.flatnonzero(by_id), np.flatnonzero(by_words)])

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self._content.attributes

    @cached_property
    def origins(self) -> Sequence[str]:
        return sorted(origins_of(self._table.text))

    @property
    def _content(self) -> "_Content":
        with self._one_reads:
            return self._read

    @cached_property
    def _read(self) -> "_Content":
        return _Content(self._table)


class _Content:
    """The contents that one pass over the table reads."""

    def __init__(self, table: ListedTable) -> None:
        self.ids, self.words = _Beginnings(table.count), _Beginnings(table.count)
        columns: dict[str, Counter[str]] = defaultdict(Counter)
        split: dict[str, list[str]] = {}  # brands and colours come again and again
        for product, (begin, end) in enumerate(pairwise(table.starts.tolist())):
            images = table.lines(begin, end)
            texts = set(map(attributes_of, images))
            pairs = {pair for text in texts for pair in json.loads(text).items() if pair[1]}
            product_id = _typed(product_id_of(images[0]))
            self.ids.add(product_id, product)
            mine = set(_WORD.findall(product_id))
            for name, value in pairs:
                columns[name][value] += 1
                if value not in split:
                    split[value] = _WORD.findall(_typed(value))
                mine.update(split[value])
            for word in mine:
                self.words.add(word, product)
        self.ids.sort()
        self.words.sort()
        order = table.image(0).attributes if table.count else {}
        names = dict.fromkeys([name for name in order if name in columns] + sorted(columns))
        self.attributes = [_attribute(name, columns[name]) for name in names]


class _Beginnings:
    """Texts -> products, found by how a text begins: the texts are sorted, and so are their products behind them.

    First `add` all, then `sort`. The texts stand in one run of bytes, for a million Python objects take 60 MB.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._numbers: dict[bytes, int] = {}
        self._added, self._products = array("i"), np.zeros(0, np.int32)
        self._of = array("i")
        self._bytes, self._begins, self._ends = b"", np.zeros(1, np.int64), np.zeros(1, np.int64)

    def add(self, text: str, product: int) -> None:
        """Add a text of a product."""
        self._added.append(self._numbers.setdefault(text.encode("utf-8", "surrogatepass"), len(self._numbers)))
        self._of.append(product)

    def sort(self) -> None:
        """Make what was added ready to be found."""
        texts = sorted(self._numbers)  # UTF-8 sorts as its characters do
        places = np.argsort(np.fromiter(map(self._numbers.__getitem__, texts), np.int64, len(texts)))
        added = places[np.array(self._added, np.int64)]
        self._products = np.array(self._of, np.int32)[added.argsort(kind="stable")]
        self._ends = np.cumsum([0, *np.bincount(added, minlength=len(texts))])
        self._begins = np.cumsum([0, *map(len, texts)])
        self._bytes = b"".join(texts)
        self._numbers, self._added, self._of = {}, array("i"), array("i")

    def beginning(self, text: str) -> NDArray[np.bool_]:
        """The products of which a text begins so: `(products,)`."""
        found = np.zeros(self._count, np.bool_)
        if text:
            wanted, all_texts = text.encode("utf-8", "surrogatepass"), range(len(self._ends) - 1)
            begin = bisect_left(all_texts, wanted, key=self._text)
            end = bisect_left(all_texts, wanted + b"\xff", begin, key=self._text)
            found[self._products[self._ends[begin] : self._ends[end]]] = True
        return found

    def _text(self, number: int) -> bytes:
        return self._bytes[self._begins[number] : self._begins[number + 1]]


def _attribute(name: str, values: Counter[str]) -> Attribute:
    most = sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_VALUES]
    numbers = _numbers(values)
    low, high = (min(numbers), max(numbers)) if numbers else (None, None)
    # Copies lie together; the originals lie everywhere among those that are forgotten, and would keep their memory.
    kept = [ValueCount(value.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"), n) for value, n in most]
    return Attribute(name, kept, len(values), low, high)


def _numbers(texts: Collection[str]) -> list[float]:
    """All values as numbers, as filters take them, or none."""
    numbers = [found for text in texts if (found := number(text.strip())) is not None]
    return numbers if len(numbers) == len(texts) else []


def _typed(text: str) -> str:
    """A text in the form to compare with typed text: folded as filters do, and without accents, which filters tell
    apart."""
    plain = folded(text)
    if plain.isascii():
        return plain
    return "".join(part for part in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(part))
