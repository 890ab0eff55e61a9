"""Parse the bytes of a catalog file into rows. Pure: `sources` knows where the bytes come from."""

import csv
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shared.errors import CatalogError
from shared.refusals import Kind, Refusal

PRODUCT, IMAGE = "product_id_model", "id"
SEPARATORS = ";,|\t"
MAX_TEXT = 512 * 1024 * 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One image of one product. `number` counts the catalog's rows from 1; ids and attributes are text, verbatim.

    `url` is where the image lies, where that is not for the template to say.
    """

    number: int
    product_id: str
    image_id: str
    attributes: Mapping[str, str] = field(hash=False)
    url: str = ""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that is not in the index, and the reason."""

    row: CatalogRow
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Catalog:
    """The rows of a catalog: `rows` can be indexed; `refused` cannot, which reading them showed. Together they are all
    rows."""

    uri: str
    etag: str
    columns: tuple[str, ...]
    rows: tuple[CatalogRow, ...]
    refused: tuple[RefusedRow, ...]

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.refused)


def parse_catalog(data: bytes, uri: str, etag: str = "", limit: int | None = None) -> Catalog:
    """Read a CSV catalog, gzipped or not, or its first `limit` rows.

    The separator is the one of `;`, `,`, `|` and tab that yields the columns `product_id_model` and `id`. The text is
    UTF-8, with or without a byte order mark, else UTF-16 by its mark, else Latin-1. Raises `CatalogError`, naming the
    file and the column or line, where that fails.
    """
    import pandas as pd  # takes longer to load than going back to another snapshot, which needs none of it

    text = _text(_unzipped(data, uri))
    separator, header = _header(text, uri)
    try:
        with warnings.catch_warnings(action="error"):  # pandas would cut off surplus fields with a mere warning
            frame = pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, na_filter=False, index_col=False, header=0, names=header
            )
    except pd.errors.ParserWarning as error:
        raise CatalogError(f"The catalog {uri} cannot be read: line 2 has more fields than its header.") from error
    except (ValueError, Warning, OverflowError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ").rstrip(".")
        raise CatalogError(f"The catalog {uri} cannot be read: {reason}. Correct that line.") from error
    records = enumerate(frame.to_dict("records"), 1)
    rows = (CatalogRow(number, record.pop(PRODUCT), record.pop(IMAGE), record) for number, record in records)
    return checked(islice(rows, limit), uri, etag, header)


def checked(rows: Iterable[CatalogRow], uri: str, etag: str, columns: Sequence[str]) -> Catalog:
    """Set aside rows without an id and repeated rows. Raises `CatalogError` if there are no rows at all."""
    kept: dict[tuple[str, str], CatalogRow] = {}
    refused: list[RefusedRow] = []
    for row in rows:
        key = (row.product_id, row.image_id)
        if not row.product_id or not row.image_id:
            empty = PRODUCT if not row.product_id else IMAGE
            refused.append(RefusedRow(row, Refusal(Kind.MISSING_ID, f"The column {empty} is empty.")))
        elif key in kept:
            detail = f"Row {kept[key].number} is the same image of the same product."
            refused.append(RefusedRow(row, Refusal(Kind.DUPLICATE, detail)))
        else:
            kept[key] = row
    if not kept and not refused:
        raise CatalogError(f"The catalog {uri} has no rows. Nothing was built.")
    return Catalog(uri, etag, tuple(columns), tuple(kept.values()), tuple(refused))


def folder_rows(paths: Iterable[Path]) -> Iterator[CatalogRow]:
    """Rows of a folder of pictures, from paths relative to it, by the first library's naming.

    `helmet1.jpg`, `stick1_1.jpg`, `stick1_2.jpg` are two products, the second with two pictures. In a subfolder the
    folder's name is part of the product id, and is its `category`.
    """
    for number, path in enumerate(paths, 1):
        stem = path.with_suffix("").as_posix()
        several = re.fullmatch(r"(.+)_\d+", stem)
        category = path.parent.as_posix() if len(path.parts) > 1 else ""
        attributes = {"path": path.as_posix(), "category": category}
        yield CatalogRow(number, several[1] if several else stem, path.as_posix(), attributes)


def _unzipped(data: bytes, uri: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    parts, size = [], 0
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                part = member.decompress(data, 1 << 20)
                data = member.unconsumed_tail or member.unused_data
                parts.append(part)
                size += len(part)
                if size > MAX_TEXT:
                    raise CatalogError(f"The catalog {uri} unzips to more than {MAX_TEXT:,} bytes. Split it.")
                if not part and not member.eof and not member.unconsumed_tail:
                    raise CatalogError(f"The catalog {uri} is a gzip file that ends too early. Upload it again.")
            data = data.lstrip(b"\0")  # padding that some tools add
    except zlib.error as error:
        raise CatalogError(f"The catalog {uri} is a damaged gzip file ({error}). Upload it again.") from error
    return b"".join(parts)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _header(text: str, uri: str) -> tuple[str, list[str]]:
    """The separator and the column names."""
    line = next((line for line in io.StringIO(text) if line.strip()), "")
    if not line:
        raise CatalogError(f"The catalog {uri} is empty.")
    readings = {separator: _fields(line, separator) for separator in SEPARATORS}
    # The reading that has most of the needed columns, then the one with most columns.
    separator = max(SEPARATORS, key=lambda mark: (len({PRODUCT, IMAGE} & set(readings[mark])), len(readings[mark])))
    header = readings[separator]
    for name in (PRODUCT, IMAGE):
        if name not in header:
            found = ", ".join(header)[:200]
            raise CatalogError(f"The catalog {uri} has no column {name!r} in its first line; it has: {found!r}.")
    for name in header:
        if header.count(name) > 1:
            raise CatalogError(f"The catalog {uri} has the column {name!r} twice.")
    return separator, header


def _fields(line: str, separator: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    except csv.Error:
        return [name.strip() for name in line.split(separator)]
