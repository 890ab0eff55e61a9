"""Catalogs, and URL templates over their columns: read, or refused with a sentence."""

import gzip
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from indexer.catalog.parsing import SEPARATORS, Catalog, parse_catalog
from indexer.quality.evaluate import labelled_queries
from shared.errors import CatalogError, ConfigError
from shared.refusals import Refusal
from shared.storage.files import path_of
from shared.storage.url_template import UrlTemplate
from tests.support.fuzzing import damaged, fuzz, is_refused

PIECES = st.sampled_from(
    ["", "8300037", "0341", '"', '""', '"a;b"', "é", "\ufeff", "a\nb", "\r", "\0", "=1", "  ", "%", "..", "/"]
)
CELLS = PIECES | st.text(max_size=6)
COLUMNS = st.sampled_from(["path", "price", "id", "", " id ", "name\n"]) | st.text(max_size=4)


@st.composite
def catalogs(draw: DrawFn) -> bytes:
    """The text of a catalog, mostly a sound one, encoded and perhaps gzipped."""
    header = draw(st.permutations(["product_id_model", "id", *draw(st.lists(COLUMNS, max_size=3))]))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=5))
    mark, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = "".join(mark.join(row) + end for row in [header, *rows])
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])), "replace")
    return gzip.compress(data, 1, mtime=0) if draw(st.booleans()) else data


DAMAGED = damaged(catalogs(), [b";", b'"', b"\n", b"\x1f\x8b", b"\xff\xfe", b"product_id_model", b"id;"])


def test_a_catalog_is_read_or_refused() -> None:
    def holds(data: bytes) -> None:
        found = list[Catalog]()
        is_refused(lambda: found.append(parse_catalog(data, "catalog.csv")), CatalogError)
        for catalog in found:
            assert catalog.count == len(catalog.rows) + len(catalog.refused) > 0
            assert all(row.product_id and row.image_id for row in catalog.rows)
            assert (
                len({row.number for row in catalog.rows} | {each.row.number for each in catalog.refused})
                == catalog.count
            )
            assert all({*row.attributes} == {*catalog.columns} - {"product_id_model", "id"} for row in catalog.rows)

    fuzz(DAMAGED, holds)


def test_photos_of_a_csv_are_read_or_refused(tmp_path: Path) -> None:
    csv = tmp_path / "photos.csv"
    (tmp_path / "a.jpg").write_bytes(b"a")

    def holds(data: bytes) -> None:
        csv.write_bytes(data)
        is_refused(lambda: labelled_queries(csv), CatalogError, ConfigError)

    sound = st.sampled_from(
        [b"product_id_model;id;path\n1;2;a.jpg\n3;4;a.jpg\n", b"id,product_id_model,path\n1,2,a.jpg\n"]
    )
    fuzz(damaged(sound, [b"\0", b"../", b"/", b"a" * 300, b"\xff", b";", b"\n"]) | DAMAGED, holds)


TEMPLATES = st.lists(
    st.sampled_from(
        [
            "https://cdn.example",
            "http://",
            "file:///pictures",
            "file://",
            "/",
            "{id}",
            "{size}",
            "{path}",
            "{",
            "}",
            "[",
            "]",
            "?a=",
            "#",
            ":",
            "@",
            "\0",
            "%2e%2e",
            "..",
            "é",
            "\\",
            "{id}{path}",
        ]
    )
    | st.text(max_size=3),
    max_size=6,
).map("".join)


def test_an_image_has_a_url_or_a_refusal_and_a_path_stays_in_its_folder() -> None:
    def holds(sent: tuple[str, str, str]) -> None:
        text, image, path = sent
        template = UrlTemplate(text)
        if is_refused(lambda: template.check(["path"]), ConfigError):
            return
        url = template.fill("p", image, {"path": path})
        if isinstance(url, Refusal):
            return
        assert url.isascii() or not text.isascii()
        if url.startswith("file://"):
            folder = path_of(text.partition("{")[0] + "_").parent
            assert path_of(url).resolve().is_relative_to(folder.resolve())

    values = (
        st.lists(st.sampled_from(["..", "/", "%2e", "%2F", "a", "\0", "\ud800", "\\"]), max_size=5).map("".join) | CELLS
    )
    fuzz(st.tuples(TEMPLATES, values, values), holds, 200)
