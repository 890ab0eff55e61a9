"""Filters on images by their columns: `brand:ccm,bauer;price:20..80;in_stock:true`.

Conditions are joined with `;` and must all hold; the values of one with `,`, and one of them must. A value is a text,
whose case does not matter, or a range of numbers, whose ends may be absent and belong to it. What holds `,` `;` `:` or
`..` stands in double quotes, within which `""` is one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from shared.errors import BadQuestion

LONGEST = 8000  # characters, of all filters of a question
MOST_CONDITIONS, MOST_VALUES, MOST_RANGES = 16, 256, 8
_TOKEN = re.compile(r'\s*+(?:"((?:[^"]|"")*+)"\s*+|(?!")([^,;:]*+))([,;:]|\Z)')
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float


Value: TypeAlias = str | Range


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: the column has one of the values; texts are folded."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: all of the conditions hold."""

    conditions: tuple[Condition, ...]


def parse(texts: Iterable[str]) -> Filter | None:
    """Read a filter, or several that must all hold; None if they have no condition. Raises `BadQuestion`."""
    texts = [texts] if isinstance(texts, str) else [*texts]
    _limit("characters", sum(map(len, texts)), LONGEST)
    conditions = tuple(condition for text in texts if text.strip() for condition in _conditions(text))
    values = [value for condition in conditions for value in condition.values]
    _limit("conditions", len(conditions), MOST_CONDITIONS)
    _limit("values", len(values), MOST_VALUES)
    _limit("ranges", sum(isinstance(value, Range) for value in values), MOST_RANGES)
    return Filter(conditions) if conditions else None


def _limit(things: str, count: int, most: int) -> None:
    if count > most:
        raise BadQuestion(f"filter has {count:,} {things}; the limit is {most:,} in all filters of a question.")


def folded(text: str) -> str:
    """A text as texts are compared: its case and the space around it do not matter."""
    return text.strip().casefold()


def number(text: str) -> float | None:
    """Read a text as a number, None if it is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _conditions(text: str) -> Iterable[Condition]:
    column, values, at = "", list[Value](), 0
    while True:
        token = _TOKEN.match(text, at)
        if token is None:
            raise BadQuestion(
                f'filter has quotes that do not end a value at {text[at:].strip()!r:.80}; write ".." or "".'
            )
        quoted, plain, mark = token.groups()
        at = token.end()
        if mark == ":" and not column:
            column = _unquoted(quoted, plain)
            if not column:
                raise BadQuestion("filter has no column before ':'; write column:value.")
            continue
        if not column or mark == ":":
            raise BadQuestion(f"filter has no single ':' in {text!r:.80}; write column:value;column:value.")
        values.append(_value(column, plain.strip()) if quoted is None else folded(_unquoted(quoted, plain)))
        if mark != ",":
            yield Condition(column, tuple(values))
            column, values = "", []
        if not mark:
            return


def _unquoted(quoted: str | None, plain: str) -> str:
    return plain.strip() if quoted is None else quoted.replace('""', '"')


def _value(column: str, text: str) -> Value:
    low, dots, high = (part.strip() for part in text.partition(".."))
    if not text:
        raise BadQuestion(f'filter has no value for {column!r:.80}; for the empty one write column:"".')
    if not dots:
        return folded(text)
    ends = (number(low) if low else -inf, number(high) if high else inf)
    if None in ends or ends == (-inf, inf):
        raise BadQuestion(
            f'filter has {text!r:.80} for {column!r:.80}; a range is 20..80, 20.. or ..80. Quote a text: "..".'
        )
    found = Range(*ends)  # type: ignore[arg-type]
    if found.low > found.high:
        raise BadQuestion(
            f"filter has {text!r:.80} for {column!r:.80}; a range goes from the lower number to the higher."
        )
    return found
