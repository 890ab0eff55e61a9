"""Live changes and index runs: merged once, answered the same before and after, in any snapshot and by any network."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.catalog.parsing import parse_catalog
from indexer.ingest.cache import Cache
from indexer.ingest.merge import merge_live_changes
from indexer.ingest.pipeline import index_images
from indexer.metric.fit import Features, fit
from server.serving.live_changes import embed_waiting
from shared.embedding.families.colour_grid import ColourGrid
from shared.embedding.registry import load
from shared.live.changes import catalog_vectors
from shared.live.journal import Journal
from shared.live.live_view import LiveView, live_view
from shared.live.reading import LiveImage
from shared.snapshot.manifest import LearnedPart, Middle, Quality, Recipe
from shared.snapshot.reader import Snapshot
from shared.storage.url_template import UrlTemplate
from tests.support.indexing import indexer, plan
from tests.support.live_client import Client, picture
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY, hockey, snapshot_of, unit

CSV = "product_id_model;id;name\n" + "".join(f"p{n};{n};n{n}\n" for n in range(24)) + "p0;24;n0\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A catalog of 24 products, the first with two images, in files."""
    (tmp_path / "c.csv").write_text(CSV)
    for n in range(25):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    return tmp_path


def index(shop: Path, *more: str) -> str:
    where = ("--department", "371", "--domain", "0341", "--data", str(shop / "data"), "--model", "colour_grid")
    source = ("--catalog", str(shop / "c.csv"), "--image-url", f"file://{shop}/{{id}}.jpg")
    done = indexer(*where, *source, "--metric", "plain", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(client: Client) -> dict[str, Any]:
    """All that can be asked of a small shop."""
    found: dict[str, Any] = {}
    for name in [*(f"p{n}" for n in range(24)), "new"]:
        answer = client.http.get(f"/v1/371/0341/products/{name}/similar?k=50")
        found[name] = answer.get_json().get("results", answer.status_code)
    for seed in (*range(26), 500, 501, 502):
        found[f"photo {seed}"] = client.ask("POST", "/search?k=50", data=picture(seed))["results"]
    for results in found.values():
        for result in results if isinstance(results, list) else []:
            del result["verdict"]  # fitted to the catalog as it is
    return found


def alike(found: dict[str, Any]) -> dict[str, Any]:
    """The same answers, with scores that may differ in the last digit."""

    def near(result: dict[str, Any]) -> dict[str, Any]:
        return {**result, "score": pytest.approx(result["score"], abs=2e-6)}

    return {asked: [near(one) for one in all_] if isinstance(all_, list) else all_ for asked, all_ in found.items()}


def change(client: Client) -> None:
    client.put("p3", 500, attributes={"name": "other"})
    client.put("new", 501, 502, attributes={"name": "new"})
    client.ask("DELETE", "/products/p5")
    client.put("p6", 503)
    client.ask("DELETE", "/products/p6")
    client.ask("PUT", "/availability", json={"unavailable": ["p9", "new"]})
    client.ask("PUT", "/products/p1/pins", json={"pinned": ["p3"], "blocked": ["p2"]})


@pytest.mark.slow
def test_an_index_run_merges_the_changes_and_the_answers_stay(shop: Path) -> None:
    index(shop)
    client = Client(shop / "data")
    before_all = answers(client)
    change(client)
    before = answers(client)
    assert before != alike(before_all)
    printed = index(shop)
    assert "rows refused: deleted" in printed
    assert "rows refused: replaced" in printed
    client.snapshots.refresh()
    snapshot = client.snapshots.get("371/0341")
    assert isinstance(snapshot, LiveView)
    assert not snapshot.changes.added
    assert not snapshot.gone.any()
    assert answers(client) == alike(before)
    report = json.loads((snapshot.folder / "report.json").read_bytes())
    assert (report["rows"], report["indexed"], report["refused"]) == (28, 25, 3)
    assert report["refused_by_kind"] == {"deleted": 2, "replaced": 1}
    assert (report["products"], snapshot.manifest.quality.coverage) == (23, 1.0)
    refused = csv.DictReader(io.StringIO((snapshot.folder / "refused.csv").read_text()), delimiter=";")
    assert [(row["product_id_model"], row["kind"]) for row in refused] == [
        ("p3", "replaced"),
        ("p5", "deleted"),
        ("p6", "deleted"),
    ]
    assert {row["indexed"] for row in client.ask("GET", "/changes")["changes"]} == {True}
    assert "dead" not in (shop / "data" / "health" / "371" / "0341" / "health.csv").read_text()
    assert "Nothing changed" in index(shop)

    hockey(shop / "data").go_back()  # where they are laid over again
    client.snapshots.refresh()
    assert client.snapshots.get("371/0341").id != snapshot.id
    assert answers(client) == alike(before)
    hockey(shop / "data").go_back()
    client.snapshots.refresh()
    client.put("p3", 3)  # after the run
    (added,) = client.snapshots.get("371/0341").changes.added  # type: ignore[attr-defined]
    assert added.product_id == "p3"
    client.ask("DELETE", "/changes?product_id=p3")
    assert answers(client) == alike(before)
    hockey(shop / "data").go_back()
    client.snapshots.refresh()
    client.ask("DELETE", "/changes")
    client.ask("PUT", "/availability", json={"unavailable": []})
    client.ask("DELETE", "/products/p1/pins")
    assert answers(client) == alike(before_all)
    assert isinstance(client.snapshots.get("371/0341"), Snapshot)
    index(shop)  # the catalog alone
    client.snapshots.refresh()
    assert answers(client) == alike(before_all)


@pytest.mark.slow
def test_a_put_image_that_lies_at_a_url_is_fetched_like_any_other(shop: Path) -> None:
    index(shop)
    client = Client(shop / "data", f"file://{shop}/{{id}}.jpg")
    (shop / "77.jpg").write_bytes(picture(77))
    client.ask("PUT", "/products/new", json={"images": [{"image_id": "77"}]})
    assert client.seen(77) == ["new"]
    (shop / "77.jpg").write_bytes(picture(78))
    index(shop)
    client.snapshots.refresh()
    assert client.seen(78) == ["new"]
    (shop / "77.jpg").unlink()
    assert "rows refused: gone" in index(shop)


def test_all_rows_are_accounted_for_and_counted_on(tmp_path: Path) -> None:
    catalog = parse_catalog(b"product_id_model;id\np;1\nq;2\n;3\nq;4\n", "c.csv")
    journal = Journal(tmp_path, HOCKEY)
    with Cache(tmp_path) as cache:
        assert merge_live_changes(catalog, journal, cache) == (catalog, None)
        for name in ("new", "q"):
            images = [LiveImage("a", "", drawn(1)), LiveImage("b", "", b"no picture")]
            journal.put(name, {}, images, "net", np.ones((2, 3), np.float32))
        journal.delete("p", indexed=True)
        merged, live = merge_live_changes(catalog, journal, cache)
        assert live
        assert live.seq == 3
        assert [row.number for row in merged.rows] == [5, 6, 7, 8]
        with pytest.raises(Exception, match="MAX_FAILURES"):
            index_images(merged, UrlTemplate("http://127.0.0.1:1/{id}"), load("colour_grid"), cache, plan())
        done = index_images(merged, UrlTemplate("http://127.0.0.1:1/{id}"), load("colour_grid"), cache, plan(1.0))
    assert done.report.rows == len(done.report.indexed) + len(done.report.refused) == 8
    assert done.report.kinds == {"replaced": 2, "unsupported_format": 2, "missing_id": 1, "deleted": 1}
    assert {image.image_url[:5] for image in done.images} == {"live:"}


RECIPES = [
    Recipe(),
    Recipe(root=True),
    Recipe(centre=True),
    Recipe(centre=True, within=True),
    Recipe(centre=True, within=True, pull=True),
    Recipe(centre=True, within=True, middle=Middle.INSTEAD, pull=True),
    Recipe(centre=True, within=True, middle=Middle.BESIDE, pull=True),
]


@pytest.mark.slow
def test_a_put_product_stands_where_a_run_would_place_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(600), rng.integers(1, 4, 600))
    raw = np.abs(rng.normal(size=(len(owners), 700))).astype(np.float32)
    snapshot = snapshot_of(tmp_path, ["p", "q"], unit([1, 0], [0, 1]))
    for recipe in RECIPES:
        snapshot.projection, rows = fit(Features(raw, 400), owners, None, recipe, smaller=True)
        embedder = replace(snapshot.manifest.embedder, plain_dimension=400)
        quality = Quality(learned=LearnedPart(recipe))
        snapshot.manifest = replace(snapshot.manifest, embedder=embedder, quality=quality)
        for product in range(0, 600, 50):
            mine = owners == product
            assert np.allclose(catalog_vectors(snapshot, raw[mine]), rows[mine], atol=2e-6)


@pytest.mark.slow
def test_a_snapshot_of_another_network_embeds_what_waits(shop: Path) -> None:
    index(shop)
    client = Client(shop / "data")
    client.put("new", 501, 502)
    client.put("p3", 503)
    client.ask("DELETE", "/products/p4")
    snapshot = client.snapshots._written["371/0341"]
    embedder = replace(snapshot.manifest.embedder, fingerprint="another")
    snapshot.manifest = replace(snapshot.manifest, embedder=embedder)
    journal = Journal(shop / "data", HOCKEY)

    def live(before: LiveView | None = None) -> LiveView:
        with journal.reading() as reading:
            view = live_view(snapshot, reading, before)
        assert isinstance(view, LiveView)
        return view

    view = live()
    assert (len(view.waiting), len(view.changes.added), view.tag) == (3, 0, f"{snapshot.id}+3.3")
    assert (view.products.find("new"), view.products.find("p4")) == (None, None)
    assert view.products.find("p3") == snapshot.products.find("p3")  # as it was
    for _ in range(2):
        embed_waiting(view, journal, lambda _: ColourGrid())
    after = live(view)
    assert (len(after.waiting), len(after.changes.added), after.tag) == (0, 2, f"{snapshot.id}+6")
