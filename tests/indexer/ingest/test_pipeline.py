"""Whole runs against a real image server: what is fetched, embedded, refused, kept, and done again."""

import time
from pathlib import Path

import numpy as np
import pytest

from indexer.catalog.parsing import parse_catalog
from indexer.ingest import cache as cache_module
from indexer.ingest.cache import Cache
from indexer.ingest.download import Validators
from indexer.ingest.pipeline import BATCH, fetch_images
from shared.embedding.families.colour_grid import ColourGrid
from shared.embedding.registry import load
from shared.errors import ConfigError, RunStopped
from shared.images.decode import decode
from shared.images.views import square
from shared.storage.url_template import UrlTemplate
from shared.vectors.unit import Vectors, normalise
from tests.support.image_server import ImageServer, html, not_found, reply, stalled
from tests.support.indexing import plan, run
from tests.support.pictures import drawn

HEADER = "product_id_model;id;name\n"


def catalog(count: int) -> str:
    return HEADER + "".join(f"p{n};{n};Product {n}\n" for n in range(count))


@pytest.fixture
def stocked(cdn: ImageServer) -> ImageServer:
    cdn.answers.update({f"/{n}.jpg": drawn(n) for n in range(81)})
    return cdn


def by_hand(seed: int) -> Vectors:
    embedder = load("colour_grid")
    return normalise(embedder.embed(square(np.asarray(decode(drawn(seed))), embedder.spec.image_size)[None]))[0]


def test_images_come_grouped_by_product_with_their_own_vectors(stocked: ImageServer, tmp_path: Path) -> None:
    done = run(tmp_path, HEADER + "p;1;a\nq;2;b\np;3;c\n", stocked.url + "/{id}.jpg")
    assert [(image.product_id, image.image_id) for image in done.images] == [("p", "1"), ("p", "3"), ("q", "2")]
    assert done.images[1].image_url == f"{stocked.url}/3.jpg"
    assert done.images[1].attributes == {"name": "c"}
    for image, vector in zip(done.images, normalise(done.raw), strict=True):
        assert vector @ by_hand(int(image.image_id)) > 0.9999


def test_a_second_run_fetches_no_body_and_embeds_nothing(stocked: ImageServer, tmp_path: Path) -> None:
    first = run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    stocked.bodies.clear()
    again = run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    assert (first.report.tally.fetched, first.report.tally.embedded) == (81, 81)
    assert not stocked.bodies
    assert (again.report.tally.unchanged, again.report.tally.embedded, again.report.tally.reused) == (81, 0, 81)
    assert (normalise(again.raw) == normalise(first.raw)).all()


def test_exactly_what_changed_is_embedded(stocked: ImageServer, tmp_path: Path) -> None:
    run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    stocked.answers.update({f"/{n}.jpg": drawn(1000 + n) for n in range(5)})
    done = run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    assert (done.report.tally.fetched, done.report.tally.embedded) == (5, 5)
    assert normalise(done.raw)[2] @ by_hand(1002) > 0.9999


def test_another_network_fetches_nothing_anew(
    stocked: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, catalog(9), stocked.url + "/{id}.jpg")
    stocked.bodies.clear()

    other = ColourGrid()
    monkeypatch.setattr(other, "spec", load("colour_grid").spec.__class__("other", 49, 64, "another"), raising=False)
    done = run(tmp_path, catalog(9), stocked.url + "/{id}.jpg", model=other)
    assert not stocked.bodies
    assert done.report.tally.embedded == 9


@pytest.mark.fault("I1")
@pytest.mark.fault("N1")
@pytest.mark.slow
def test_every_row_of_a_bad_catalog_is_accounted_for_in_time(stocked: ImageServer, tmp_path: Path) -> None:
    bad = [not_found] * 10 + [html] * 5 + [drawn(1, (400, 400))[:700]] * 3 + [stalled] * 2
    stocked.answers.update({f"/{n}.jpg": answer for n, answer in enumerate(bad)})
    rows = catalog(81) + "".join(f"p{n};{n};again\n" for n in range(40, 44)) + ";5;x\n"
    how = plan(max_failures=0.5, read=1.5, total=3.0)
    started = time.monotonic()
    done = run(tmp_path, rows, stocked.url + "/{id}.jpg", how)
    assert time.monotonic() - started < 15  # an answer would take 30
    report = done.report.to_dict()
    assert (report["rows"], report["indexed"], report["refused"]) == (86, 61, 25)
    assert report["refused_by_kind"] == {
        "gone": 10, "unsupported_format": 5, "duplicate": 4, "bad_image": 3, "timeout": 2, "missing_id": 1,
    }  # fmt: skip
    assert len(done.raw) == 61
    assert done.report.refused_csv().decode().count("\n") == 26
    assert [row["row"] for row in report["refused_rows"]] == sorted(row["row"] for row in report["refused_rows"])


@pytest.mark.parametrize(("lost", "stops"), [(20, False), (21, True)])
def test_a_run_that_loses_too_much_stops(stocked: ImageServer, tmp_path: Path, lost: int, stops: bool) -> None:
    stocked.answers.update({f"/{n}.jpg": not_found for n in range(lost)})
    stocked.answers.update({f"/{n}.jpg": drawn(n) for n in range(lost, 100)})
    if stops:
        with pytest.raises(RunStopped, match=r"21 of 100 .* MAX_FAILURES=0\.2"):
            run(tmp_path, catalog(100), stocked.url + "/{id}.jpg")
    else:
        assert len(run(tmp_path, catalog(100), stocked.url + "/{id}.jpg").images) == 80


@pytest.mark.fault("N7")
@pytest.mark.slow
def test_a_dead_server_stops_the_run_early(cdn: ImageServer, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="None of the first 200"):
        run(tmp_path, catalog(5000), cdn.url + "/{id}.jpg", plan(max_failures=1))
    assert sum(cdn.requests.values()) < 1000


@pytest.mark.fault("C4")
def test_no_usable_image_at_all(cdn: ImageServer, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="No image"):
        run(tmp_path, catalog(3), cdn.url + "/{id}.jpg", plan(max_failures=1))


@pytest.mark.fault("I1")
@pytest.mark.fault("N2")
def test_what_fails_for_now_stays_as_it_was_and_what_is_gone_goes(stocked: ImageServer, tmp_path: Path) -> None:
    first = run(tmp_path, catalog(20), stocked.url + "/{id}.jpg")
    stocked.answers["/1.jpg"] = lambda handler: reply(handler, 500, b"")
    stocked.answers["/2.jpg"] = html
    stocked.answers["/3.jpg"] = not_found
    done = run(tmp_path, catalog(20), stocked.url + "/{id}.jpg")
    kept = {url.rpartition("/")[2]: refusal.kind for url, refusal in done.report.tally.kept.items()}
    assert kept == {"1.jpg": "http_error", "2.jpg": "unsupported_format"}
    assert done.report.kinds == {"gone": 1}
    assert (normalise(done.raw)[1:3] == normalise(first.raw)[1:3]).all()
    stocked.answers.update({f"/{n}.jpg": drawn(100 + n) for n in (1, 2, 3)})
    mended = run(tmp_path, catalog(20), stocked.url + "/{id}.jpg", plan(retry_failed=True))
    assert mended.report.tally.fetched == 3
    assert normalise(mended.raw)[2] @ by_hand(102) > 0.9999


def test_retry_failed_asks_only_for_what_failed(stocked: ImageServer, tmp_path: Path) -> None:
    stocked.answers["/1.jpg"] = not_found
    stocked.answers["/2.jpg"] = html
    run(tmp_path, catalog(20), stocked.url + "/{id}.jpg")
    stocked.requests.clear()
    stocked.answers["/1.jpg"] = stocked.answers["/2.jpg"] = drawn(1)
    done = run(tmp_path, catalog(20), stocked.url + "/{id}.jpg", plan(retry_failed=True))
    assert set(stocked.requests) == {"/1.jpg", "/2.jpg"}
    assert len(done.images) == 20


def test_one_picture_under_many_ids_is_embedded_once(stocked: ImageServer, tmp_path: Path) -> None:
    stocked.answers.update({f"/{n}.jpg": drawn(7) for n in range(60)})
    done = run(tmp_path, catalog(60), stocked.url + "/{id}.jpg")
    assert len(done.images) == 60
    assert done.report.tally.embedded == 1


def test_one_bad_picture_under_many_ids_is_refused_for_each(stocked: ImageServer, tmp_path: Path) -> None:
    stocked.answers.update({f"/{n}.jpg": html for n in range(40)})
    done = run(tmp_path, catalog(81), stocked.url + "/{id}.jpg", plan(max_failures=0.5))
    assert done.report.kinds == {"unsupported_format": 40}


@pytest.mark.fault("Q3")
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_refused(
    stocked: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:

    sound = ColourGrid.embed

    def embed(self: ColourGrid, images: np.ndarray) -> Vectors:
        vectors = sound(self, images)
        vectors[np.isclose(vectors, by_hand_raw).all(axis=1)] = value
        return vectors

    embedder = load("colour_grid")
    by_hand_raw = embedder.embed(square(np.asarray(decode(drawn(3))), 64)[None])
    monkeypatch.setattr(ColourGrid, "embed", embed)
    done = run(tmp_path, catalog(40), stocked.url + "/{id}.jpg")
    assert done.report.kinds == {"bad_vector": 1}
    assert len(done.images) == len(done.raw) == 39
    assert np.isfinite(done.raw).all()


def test_a_killed_run_goes_on_where_it_stopped(
    stocked: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    sound, calls = ColourGrid.embed, iter(range(99))

    def embed(self: ColourGrid, images: np.ndarray) -> Vectors:
        if next(calls) == 2:
            raise RuntimeError("killed")
        return sound(self, images)

    monkeypatch.setattr(ColourGrid, "embed", embed)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    done = run(tmp_path, catalog(81), stocked.url + "/{id}.jpg")
    assert len(done.images) == 81
    assert done.report.tally.embedded <= 81 - BATCH


def test_files_need_no_server_and_no_copy(tmp_path: Path) -> None:
    pictures = tmp_path / "pics"
    pictures.mkdir()
    for n in range(4):
        (pictures / f"{n}.jpg").write_bytes(drawn(n))
    template = pictures.as_uri() + "/{id}.jpg"
    run(tmp_path / "data", catalog(4), template)
    (pictures / "2.jpg").write_bytes(drawn(22))
    done = run(tmp_path / "data", catalog(4), template)
    assert (done.report.tally.unchanged, done.report.tally.embedded) == (3, 1)
    assert not list((tmp_path / "data" / "cache" / "images").rglob("*.*"))


def test_images_alone_are_fetched_and_kept(stocked: ImageServer, tmp_path: Path) -> None:
    rows = parse_catalog(catalog(3).encode(), "c")
    with Cache(tmp_path) as cache:
        report, contents = fetch_images(rows, UrlTemplate(stocked.url + "/{id}.jpg"), cache, plan())
        assert [cache.bytes(content) for content in contents.values()] == [drawn(n) for n in range(3)]
    assert len(report.indexed) == 3


def test_kept_bytes_that_rot_are_fetched_again(stocked: ImageServer, tmp_path: Path) -> None:
    rows = parse_catalog(catalog(1).encode(), "c")
    with Cache(tmp_path) as cache:
        (content,) = fetch_images(rows, UrlTemplate(stocked.url + "/{id}.jpg"), cache, plan())[1].values()
        cache.path(content).write_bytes(b"rot")
        assert cache.bytes(content) is None


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cache.sqlite").write_bytes(b"no database" * 99)
    with pytest.raises(ConfigError, match="Delete it"):
        Cache(tmp_path)


def test_a_failure_under_a_new_network_keeps_the_old_picture(stocked: ImageServer, tmp_path: Path) -> None:
    rows = parse_catalog(catalog(9).encode(), "c")
    run(tmp_path, catalog(9), stocked.url + "/{id}.jpg")
    with Cache(tmp_path) as cache:  # as another network would find it: bytes, but no vectors
        cache._db.execute("DELETE FROM vectors")
    stocked.answers["/3.jpg"] = lambda handler: reply(handler, 400, b"")
    done = run(tmp_path, catalog(9), stocked.url + "/{id}.jpg")
    assert len(done.images) == len(rows.rows)
    assert set(done.report.tally.kept) == {f"{stocked.url}/3.jpg"}


def test_one_bad_body_everywhere_keeps_every_old_picture(stocked: ImageServer, tmp_path: Path) -> None:
    first = run(tmp_path, catalog(40), stocked.url + "/{id}.jpg")
    stocked.answers.update({f"/{n}.jpg": html for n in range(40)})
    for _ in range(2):
        done = run(tmp_path, catalog(40), stocked.url + "/{id}.jpg", plan(max_failures=1))
        assert len(done.report.tally.kept) == 40
        assert (done.raw == first.raw).all()
    with pytest.raises(RunStopped):
        run(tmp_path, catalog(40), stocked.url + "/{id}.jpg")


@pytest.mark.fault("N2")
def test_what_was_taken_down_does_not_come_back(stocked: ImageServer, tmp_path: Path) -> None:
    run(tmp_path, catalog(10), stocked.url + "/{id}.jpg")
    for answer in (not_found, lambda handler: reply(handler, 400, b"")):
        stocked.answers["/3.jpg"] = answer
        assert len(run(tmp_path, catalog(10), stocked.url + "/{id}.jpg").images) == 9


def test_vectors_without_direction_count_as_lost(
    stocked: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ColourGrid, "embed", lambda self, images: np.full((len(images), 49), np.nan, np.float32))
    with pytest.raises(RunStopped, match="MAX_FAILURES"):
        run(tmp_path, catalog(20), stocked.url + "/{id}.jpg")


def test_fetching_alone_does_not_judge_pictures(stocked: ImageServer, tmp_path: Path) -> None:
    run(tmp_path, catalog(9), stocked.url + "/{id}.jpg")
    stocked.answers["/3.jpg"] = drawn(3)[:300]
    with Cache(tmp_path) as cache:
        fetch_images(parse_catalog(catalog(9).encode(), "c"), UrlTemplate(stocked.url + "/{id}.jpg"), cache, plan())
    assert len(run(tmp_path, catalog(9), stocked.url + "/{id}.jpg").images) == 9


def test_two_runs_share_the_cache(tmp_path: Path) -> None:
    with Cache(tmp_path) as one, Cache(tmp_path) as other:
        one.record("u", Validators("", ""), "c")
        other.record("v", Validators("", ""), "c")
        assert one.known("v") == other.known("v")


def test_what_is_kept_is_read_in_blocks_and_in_the_order_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_BLOCK", 2)
    names = list("abcde")
    with Cache(tmp_path) as cache:
        cache.put_vectors("n", names, np.arange(10, dtype=np.float32).reshape(5, 2))
        assert cache.vectors("n", [*"ecbae"], 2)[:, 0].tolist() == [8, 4, 2, 0, 8]
        assert cache.embedded("n", [*"axcye"]) == {"a", "c", "e"}
        assert not cache.embedded("other", names)
        for name in names:
            cache.record(name, Validators("tag " + name, ""), name.upper())
        cache.settle(names[:3], usable=True)
        cache.settle(names[1:4], usable=False)
        cache.forget(["c"])
        found = cache.known([*names, "x"])
        assert cache.known([]) == {}
    settled = {url: (had.validators.etag, had.content, had.good, had.failed) for url, had in found.items()}
    assert settled == {
        "a": ("tag a", "A", "A", False),
        "b": ("tag b", "B", "B", True),
        "d": ("tag d", "D", "", True),
        "e": ("tag e", "E", "", False),
    }
