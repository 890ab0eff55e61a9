import gzip
import zlib
from pathlib import Path

import pytest

from indexer.catalog import parsing
from indexer.catalog.parsing import Catalog, folder_rows, parse_catalog
from shared.errors import CatalogError
from shared.refusals import Kind
from tests.support.project import SHARED, needs_shared

HEADER = "product_id_model;id;name\n"


def parse(text: str | bytes, **more: int) -> Catalog:
    return parse_catalog(text if isinstance(text, bytes) else text.encode(), "cat.csv", **more)


def ids(catalog: Catalog) -> list[tuple[str, str]]:
    return [(row.product_id, row.image_id) for row in catalog.rows]


@pytest.mark.parametrize("separator", [";", ",", "|", "\t"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_separator_and_compression_are_found(separator: str, pack: object) -> None:
    text = "product_id_model;id;name\n0341;007;NA\n".replace(";", separator).encode()
    catalog = parse(pack(text))  # type: ignore[operator]
    assert ids(catalog) == [("0341", "007")]
    assert catalog.rows[0].attributes == {"name": "NA"}


@pytest.mark.fault("C2")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_encodings(encoding: str) -> None:
    catalog = parse((HEADER + "1;2;Crosse é\n").encode(encoding))
    assert catalog.columns == ("product_id_model", "id", "name")
    assert catalog.rows[0].attributes == {"name": "Crosse é"}


@pytest.mark.fault("C2")
def test_quoted_newlines_and_separators_stay_in_their_cell() -> None:
    catalog = parse(HEADER + '1;2;"a;\nb"\n3;4;c\n')
    assert [row.attributes["name"] for row in catalog.rows] == ["a;\nb", "c"]


@pytest.mark.fault("C1")
def test_every_row_is_kept_or_refused_with_a_reason() -> None:
    catalog = parse(HEADER + "1;2;a\n1;2;b\n;3;c\n4;;d\n1;5;e\n")
    assert ids(catalog) == [("1", "2"), ("1", "5")]
    assert [(item.row.number, item.refusal.kind) for item in catalog.refused] == [
        (2, Kind.DUPLICATE),
        (3, Kind.MISSING_ID),
        (4, Kind.MISSING_ID),
    ]
    assert catalog.count == 5


def test_short_rows_are_filled_and_limit_counts_rows() -> None:
    catalog = parse(HEADER + "1;2\n3;4;x\n5;6;y\n", limit=2)
    assert ids(catalog) == [("1", "2"), ("3", "4")]
    assert catalog.rows[0].attributes == {"name": ""}


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "\u202eevil", "é" * 9000, "😀", "a\x00b", " padded ", "' OR 1=1--"]
)
def test_ids_are_kept_verbatim(name: str) -> None:
    assert ids(parse(f"{HEADER}{name};{name};n\n")) == [(name, name)]


@pytest.mark.fault("C2")
@pytest.mark.fault("C3")
@pytest.mark.fault("C4")
@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"product_id_model;name\n1;2\n", "no column 'id'"),
        (b"id;name\n1;2\n", "no column 'product_id_model'"),
        (b"product_id_model;id;id\n1;2;3\n", "column 'id' twice"),
        (b"product_id_model;id\n", "no rows"),
        (b"product_id_model;id\n1;2\n1;2;3\n", "line 3"),
        (b"product_id_model;id\n1;2;3\n", "more fields than its header"),
        (b'product_id_model;id\n1;"2\n', "EOF inside string"),
        (gzip.compress(HEADER.encode() * 99, mtime=0)[:-20], "ends too early"),
        (b"\x1f\x8b" + b"junk" * 9, "damaged gzip"),
        (gzip.compress(b"x", mtime=0) + b"junk", "damaged gzip"),
    ],
)
def test_a_bad_file_is_one_error_that_names_file_and_reason(data: bytes, named: str) -> None:
    with pytest.raises(CatalogError, match=r"cat\.csv") as caught:
        parse(data)
    assert named in str(caught.value)


@pytest.mark.fault("C3")
def test_a_gzip_bomb_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_TEXT", 10_000_000)
    with pytest.raises(CatalogError, match="more than 10,000,000 bytes"):
        parse(gzip.compress(bytes(200_000_000), 9))


def test_several_gzip_members_are_one_file() -> None:
    assert len(parse(gzip.compress(HEADER.encode()) + gzip.compress(b"1;2;a\n", mtime=0) + b"\0" * 9).rows) == 1


def test_a_folder_follows_the_first_librarys_naming() -> None:
    paths = [Path(name) for name in ("helmet1.jpg", "stick1_1.jpg", "stick1_2.jpg", "skates/s9_1.png")]
    rows = list(folder_rows(paths))
    assert [row.product_id for row in rows] == ["helmet1", "stick1", "stick1", "skates/s9"]
    assert len({row.image_id for row in rows}) == 4
    assert rows[3].attributes == {"path": "skates/s9_1.png", "category": "skates"}


@pytest.mark.fault("C2")
@pytest.mark.fault("C3")
@needs_shared
@pytest.mark.parametrize("kind", ["csv", "gzip"])
def test_fuzzed_files_parse_or_raise_the_one_error(kind: str) -> None:
    seen = 0
    for path in sorted((SHARED / "hostile" / "inputs" / kind).iterdir()):
        seen += 1
        data = path.read_bytes()
        for text in (data, HEADER.encode() + data):
            try:
                parse(text)
            except CatalogError:
                pass
            except zlib.error as error:
                raise AssertionError(path) from error
    assert seen > 20
