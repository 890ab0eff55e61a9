"""Write a report as CSV with the separator `;`: UTF-8, safe to open in a spreadsheet.

A text that a spreadsheet would take for a formula gets an apostrophe before it. A catalog's ids and a CDN's sentences
are not ours.
"""

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """The file: a line with the names, then the rows."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";")
    writer.writerow(names)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def cell(value: object) -> object:
    """A value as it is written."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
