"""Each fault is found on a real run, and what only looks like it is not."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.catalog.parsing import parse_catalog
from indexer.catalog.sources import Source
from indexer.demo.drawn_shop import product_files, shop_products
from indexer.ingest import pipeline
from indexer.ingest.cache import Cache
from indexer.ingest.picture_stats import difference, measure_picture
from indexer.ingest.pipeline import Indexed, index_images
from indexer.ingest.report import RunReport, Tally
from indexer.quality.health import Fault, Finding, counts, duplicates, find, publish
from shared.embedding.engines.runtime import Runtime
from shared.embedding.registry import load
from shared.images.decode import Decoded, decode
from shared.index.columns import columns_of
from shared.index.neighbour_table import NeighbourTable, build_neighbour_table
from shared.index.product_table import ProductImage
from shared.index.row_groups import RowGroups
from shared.partition import Partition
from shared.vectors.unit import normalise
from tests.support.image_server import ImageServer, html, not_found, reply
from tests.support.indexing import indexer, plan, run
from tests.support.pictures import drawn, encoded
from tests.support.project import SHARED, needs_shared


def plain(colour: int, size: tuple[int, int] = (200, 200)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def examined(data: Path, url: str, rows: list[str], max_failures: float = 0.9) -> list[Finding]:
    """The findings of a run over rows `product;image[;category]`."""
    done = run(data, "product_id_model;id;category\n" + "\n".join(rows), url + "/{id}", plan(max_failures))
    return found(done, data)


def found(done: Indexed, data: Path) -> list[Finding]:
    with Cache(data) as cache:
        return find(done, build_neighbour_table(normalise(done.raw[:, : done.plain]), done.groups), cache.stats)


def of(kind: Fault, findings: list[Finding]) -> list[str]:
    return sorted(finding.image.image_id for finding in findings if finding.kind == kind)


def test_dead_pictures_are_found_with_the_reason(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers.update({"/a": drawn(1), "/b": drawn(2), "/c": html, "/d": not_found})
    rows = ["p;a", "q;b", "q;b", "r;c", "s;d", ";e"]
    findings = examined(tmp_path, cdn.url, rows)
    details = {finding.image.product_id: finding.detail for finding in findings if finding.kind == Fault.DEAD}
    assert details.keys() == {"r", "s"}  # a row without an id, or given twice, has no fault of its picture
    assert details["s"].startswith("gone: The server answers 404")
    cdn.answers["/a"] = lambda handler: reply(handler, 500, b"")
    assert of(Fault.DEAD, examined(tmp_path, cdn.url, rows)) == ["a", "c", "d"]  # a stays as it was


def test_blank_and_tiny_pictures_are_found_and_small_things_on_white_are_not(cdn: ImageServer, tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(250, 3, (300, 300, 3)).clip(0, 255).astype(np.uint8)
    puck, pale = plain(255, (512, 512)), plain(255, (512, 512))
    puck[240:258, 240:258] = 30
    pale[150:350, 150:350] = 238
    pictures = {"white": plain(255), "black": plain(0), "noisy": noisy, "puck": puck, "pale": pale}
    cdn.answers.update({f"/{name}": encoded(picture) for name, picture in pictures.items()})
    cdn.answers |= {
        "/small": drawn(1, (99, 200)),
        "/large": drawn(2, (100, 200)),
        "/banner": drawn(3, (4000, 300)),
        "/thin": drawn(4, (4000, 99)),
    }
    findings = examined(tmp_path, cdn.url, [f"p{n};{path[1:]}" for n, path in enumerate(cdn.answers)])
    assert of(Fault.BLANK, findings) == ["black", "noisy", "white"]
    assert of(Fault.TINY, findings) == ["small", "thin"]
    assert ["99 x 200" in f.detail or "4000 x 99" in f.detail for f in findings if f.kind == Fault.TINY] == [True, True]


def test_a_placeholder_is_one_picture_of_three_products(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers.update({f"/a{n}": drawn(1) for n in range(3)})
    cdn.answers.update({f"/b{n}": drawn(2) for n in range(3)})
    cdn.answers.update({f"/{n}": drawn(n, (300, 300)) for n in range(10, 20)})
    rows = ["p;a0", "q;a1", "r;a2", "s;b0", "s;b1", "s;b2", *(f"t{n};{n}" for n in range(10, 20))]
    findings = examined(tmp_path, cdn.url, rows)
    assert of(Fault.PLACEHOLDER, findings) == ["a0", "a1", "a2"]
    assert not of(Fault.DUPLICATE, findings)  # neither three placeholders, nor one product's own


def test_duplicates_are_one_picture_whatever_its_encoding_and_no_variants(cdn: ImageServer, tmp_path: Path) -> None:
    shirt = Image.open(io.BytesIO(drawn(5, (400, 400))))
    other = np.array(shirt)
    other[100:200, 100:200] = 255 - other[100:200, 100:200]  # of another colour in one part
    copies = {
        "same": drawn(5, (400, 400)),
        "encoded": encoded(shirt, "WEBP", 60),
        "half": encoded(shirt.resize((200, 200))),
        "trimmed": encoded(shirt.crop((12, 12, 388, 388))),
        "cut": encoded(shirt.crop((24, 0, 400, 400))),
    }
    for name, copy in copies.items():
        cdn.answers = {"/one": drawn(5, (400, 400)), "/copy": copy, "/variant": encoded(other), "/else": drawn(6)}
        cdn.answers["/else2"] = drawn(7)
        findings = examined(tmp_path / name, cdn.url, ["b;else2", "b;one", "a;copy", "c;variant", "d;else"])
        (pair,) = [finding for finding in findings if finding.kind == Fault.DUPLICATE]
        assert (pair.image.product_id, pair.related) == ("a", "b"), name
        assert [image.image_id for image in pair.beside] == ["one"]
        assert ("very same" in pair.detail) == (name == "same")
        assert not of(Fault.PLACEHOLDER, findings)


def blocks(product: int, category: int) -> bytes:
    """A picture whose colours are mostly its category's."""
    own = np.random.default_rng(1000 + product).integers(-30, 30, (4, 4, 3))
    common = np.random.default_rng(category).integers(30, 226, (4, 4, 3))
    return encoded(Image.fromarray((common + own).astype(np.uint8)).resize((120, 120), Image.Resampling.NEAREST))


@pytest.mark.slow
def test_one_picture_of_two_colours_stands_for_variants_and_not_for_one_product(
    cdn: ImageServer, tmp_path: Path
) -> None:
    """Values that are missing, or alike but for case, do not tell the two apart."""
    cdn.answers.update({f"/{n}": drawn(n // 2, (200, 200)) for n in range(8)})
    colours = ["red", "blue", "red", " RED", "red", "", "", ""]
    text = "product_id_model;id;colour\n" + "".join(f"p{n};{n};{colour}\n" for n, colour in enumerate(colours))
    done = run(tmp_path, text, cdn.url + "/{id}")
    telling = [columns_of(image.attributes for image in done.images).column("colour")]
    findings = found(done, tmp_path)
    assert len(of(Fault.DUPLICATE, findings)) == 4  # one picture is a fault of the catalog all the same
    twice = duplicates(findings, done, telling)
    assert [twice.of_product(n).tolist() for n in range(8)] == [[], [], [3], [2], [5], [4], [7], [6]]
    assert twice.of_product(0).tolist() != duplicates(findings, done, []).of_product(0).tolist() == [1]


@pytest.mark.slow
def test_misfiled_products_lie_among_another_category(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers.update({f"/{n}": blocks(n, n % 3) for n in range(60)})
    rows = [f"p{n};{n};{('kind 0', 'kind 1', '')[n % 3]}" for n in range(60)]
    assert not of(Fault.MISFILED, examined(tmp_path, cdn.url, rows))
    rows[11] = "p11;11;kind 0"  # among products without a category
    rows[7] = "p7;7;kind 0"  # it looks like kind 1
    rows[8] = "p8;8;rare"  # the only one: that its neighbours are others says nothing
    rows[9] = "p9;9;"
    findings = examined(tmp_path, cdn.url, rows)
    (wrong,) = [finding for finding in findings if finding.kind == Fault.MISFILED]
    assert wrong.image.product_id == "p7"
    assert wrong.detail.startswith("It is filed under kind 0; 10 of the 10 products most like it are kind 1")


@pytest.mark.parametrize(("others", "found_out"), [(7, False), (8, True)])
def test_a_product_between_two_categories_is_not_misfiled(others: int, found_out: bool) -> None:
    images = [ProductImage(str(n), "1", "", {"category": "ab"[n // 20]}) for n in range(40)]
    rows = np.array([[n // 20 * 20 + (n + step) % 20 for step in range(1, 11)] for n in range(40)], np.int32)
    rows[0] = [*range(20, 20 + others), *range(1, 11 - others)]
    report = RunReport(40, 40, [], [], Tally(), 1, "")
    groups = RowGroups.of(image.product_id for image in images)
    done = Indexed(images, groups, [str(n) for n in range(40)], np.ones((40, 2), np.float32), 2, report)
    findings = find(done, NeighbourTable(rows, np.ones((40, 10), np.float32)), lambda content: None)
    assert [finding.image.product_id for finding in findings] == ["0"] * found_out


@pytest.mark.slow
def test_categories_that_are_not_visual_misfile_nothing(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers.update({f"/{n}": blocks(n, n % 3) for n in range(60)})
    # every look is filed mostly under "stock", some of it under a "sale" that looks like nothing of its own
    rows = [f"p{n};{n};{'sale' if n % 7 == 0 else 'stock'}" for n in range(60)]
    assert not of(Fault.MISFILED, examined(tmp_path, cdn.url, rows))


def test_a_second_run_finds_the_same_without_fetching_or_decoding(
    cdn: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cdn.answers = {"/a": encoded(plain(255)), "/b": drawn(1, (50, 50)), "/c": drawn(2, (300, 300))}
    cdn.answers |= {"/d": drawn(2, (200, 200)), "/e": drawn(4)}
    rows = [f"p{n};{name}" for n, name in enumerate("abcdef")]
    first = examined(tmp_path, cdn.url, rows)
    assert counts(first) == {"dead": 1, "blank": 1, "tiny": 2, "placeholder": 0, "duplicate": 1, "misfiled": 0}
    cdn.bodies.clear()
    monkeypatch.setattr(pipeline, "decode_sized", None)
    assert examined(tmp_path, cdn.url, rows) == first
    assert not cdn.bodies


def test_a_cache_from_before_stats_were_kept_finds_less(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers = {"/a": encoded(plain(255)), "/b": drawn(1), "/c": drawn(1), "/d": drawn(1)}
    rows = ["p;a", "q;b", "r;c", "s;d"]
    examined(tmp_path, cdn.url, rows)
    with Cache(tmp_path) as cache:
        cache._db.execute("DELETE FROM pictures")
    findings = examined(tmp_path, cdn.url, rows)
    assert {finding.kind for finding in findings} == {Fault.PLACEHOLDER}


def test_what_is_new_is_marked_and_stands_first(tmp_path: Path) -> None:
    def finding(product: str, related: str = "") -> Finding:
        kind = Fault.DUPLICATE if related else Fault.BLANK
        return Finding(kind, ProductImage(product, "1", "", {}), "A sentence; with a mark.", related)

    old, new = [finding("p"), finding("q", "r")], [finding("s"), finding("q", "t")]
    for findings, marked in ((old, ["", ""]), (old, ["", ""]), ([*old, *new], ["new", "", "new", ""])):
        line = publish(tmp_path, findings, lambda image: b"")
        rows = list(csv.DictReader((tmp_path / "health.csv").read_text().splitlines(), delimiter=";"))
        assert [row["new"] for row in rows] == marked
    assert [row["product_id_model"] for row in rows] == ["s", "p", "q", "q"]
    assert rows[2]["related"] == "t"
    assert rows[0]["detail"] == "A sentence; with a mark."
    assert "2 blank, 2 duplicate; 2 new" in line


def test_the_page_shows_a_placeholder_once_and_forty_of_a_kind(cdn: ImageServer, tmp_path: Path) -> None:
    cdn.answers = {f"/{n}": drawn(1) for n in range(5)} | {f"/{n}": drawn(n, (50, 50)) for n in range(5, 50)}
    findings = examined(tmp_path, cdn.url, [f"p{n};{n}" for n in range(50)] + ["<b>;gone"])
    with Cache(tmp_path) as cache:
        publish(tmp_path, findings, cache.picture)
    page = (tmp_path / "index.html").read_text()
    assert page.count("<figure") == 40 + 1 + 1
    assert page.count('class="none"') == 1
    assert "the first 40 shown" in page
    assert "stands for 5 products" in page
    assert "<b>" not in page


@pytest.mark.slow
def test_the_command_writes_both_and_counts_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for n in range(4):
        (tmp_path / "pics" / f"{n}.jpg").write_bytes(drawn(n, (200, 200)))
    (tmp_path / "pics" / "4.png").write_bytes(encoded(plain(255), "PNG"))
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path), "--model", "colour_grid")
    done = indexer(*where, "--catalog", str(tmp_path / "pics"))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "health" / "371" / "0341"
    assert f"Catalog health: 1 blank: {folder / 'index.html'}" in done.stdout
    assert (folder / "health.csv").read_text().count("\n") == 2
    (manifest,) = (tmp_path / "snapshots").glob("*/*/20*/manifest.json")
    assert '"blank": 1' in manifest.read_text()


@pytest.mark.slow
def test_the_drawn_shop_has_no_faults_but_what_is_listed_twice(networks: Path, tmp_path: Path) -> None:
    kinds = ("puck", "ice skate", "hockey stick")
    products = [p for p in shop_products() if p.design.kind in kinds and not p.again]
    (tmp_path / "images").mkdir()
    for product in products:
        for name, data in product_files(product):
            if name.startswith("images"):
                (tmp_path / name).write_bytes(data)
    rows = [(product.id, picture, product.design.kind) for product in products for picture in product.pictures]
    text = "product_id_model;id;category\n" + "".join(f"{';'.join(row)}\n" for row in rows)
    done = run(
        tmp_path,
        text,
        (tmp_path / "images").as_uri() + "/{id}.jpg",
        model=load("efficientnet_lite2", (), Runtime(networks)),
    )
    assert [finding.detail for finding in found(done, tmp_path)] == []


@pytest.mark.slow
@needs_shared
@pytest.mark.slow
def test_real_packshots_have_no_doubles_and_their_copies_are_found(tmp_path: Path) -> None:
    folder, copies = SHARED / "datasets" / "grocery", tmp_path / "copies"
    copies.mkdir()
    rows = parse_catalog((folder / "products.csv").read_bytes(), "products").rows
    for row in rows:
        picture = Image.open(folder / row.attributes["path"])
        (copies / f"{row.product_id}.webp").write_bytes(encoded(picture.resize((180, 180)), "WEBP", 70))
        picture.save(copies / f"{row.product_id} original.jpg", quality=95)
    source = Source.of(str(copies), None, "", Partition("a", "b"))
    with Cache(tmp_path) as cache:
        done = index_images(source.read(), source.image_url, load("efficientnet_lite2"), cache, plan())
    pairs = [(f.image.product_id, f.related) for f in found(done, tmp_path) if f.kind == Fault.DUPLICATE]
    assert all(other == f"{one} original" for one, other in pairs)
    assert len(pairs) >= 0.8 * len(rows)


def test_picture_stats_tell_copies_from_variants() -> None:
    one, other = (np.asarray(decode(drawn(seed, (400, 400)))) for seed in (1, 2))
    variant = one.copy()
    variant[:40, :40] = 255 - variant[:40, :40]
    first, half, changed, second = (
        measure_picture(Decoded(seen, 400, 400)) for seen in (one, one[::2, ::2], variant, other)
    )
    assert difference(first, half) < 5
    assert difference(first, changed) > 16
    assert difference(first, second) > 60
