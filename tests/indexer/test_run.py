"""The steps of an index run, in this process, with the model that needs no network."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from indexer.config import IndexConfig, config
from indexer.ingest.cache import Cache
from indexer.ingest.pipeline import index_images
from indexer.run import Run, UserPhotos, index
from shared.embedding.registry import load
from shared.errors import ConfigError, RunStopped
from shared.snapshot.manifest import CatalogPart
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind
from tests.support.pictures import drawn
from tests.support.snapshots import HOCKEY, hockey


@pytest.fixture
def job(tmp_path: Path) -> IndexConfig:
    """A run over a folder of six drawn pictures, as the command line would ask for it."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        (pictures / f"p{number}.jpg").write_bytes(drawn(number, (200, 200)))
    return config(
        department="371", domain="0341", data=tmp_path / "data", catalog=str(pictures), image_url=None, limit=None,
        connections=4, max_failures=0.2, retry_failed=False, model="colour_grid", store="faiss", metric="auto",
        max_drop=0.05, keep=2,
    )  # fmt: skip


def said() -> Console:
    return Console(file=io.StringIO(), width=100)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_makes_the_snapshot_that_serves_and_says_what_it_found(job: IndexConfig) -> None:
    console = said()
    made = index(job, console)
    assert made == hockey(job.data).current()
    snapshot = Snapshot.current(job.data, HOCKEY)
    quality, found = snapshot.manifest.quality, json.loads((snapshot.folder / "report.json").read_text())["found"]
    assert (snapshot.products.count, quality.coverage, quality.estimated_by) == (6, 1.0, "simulated photos")
    assert sorted(found) == [f"p{number}" for number in range(6)]
    assert quality.learned
    assert set(quality.verdicts) == {QueryKind.PRODUCT, QueryKind.PHOTO}
    for sentence in ("371/0341 with colour_grid: 6 rows", "Estimated R@1: ", "Catalog health: ", f"{made} is current"):
        assert sentence in text(console)


def test_the_manifest_keeps_its_json(job: IndexConfig) -> None:
    index(job, said())
    written = json.loads((Snapshot.current(job.data, HOCKEY).folder / "manifest.json").read_text())
    assert list(written["catalog"]) == ["uri", "etag", "rows", "material"]
    assert list(written["quality"]) == [
        "estimate", "estimated_by", "verdicts", "coverage", "health", "learned", "alike", "windows",
    ]  # fmt: skip
    assert list(written["quality"]["learned"]["parts"]) == ["root", "centre", "within", "middle", "pull", "photos"]
    assert set(written["quality"]["verdicts"]["photo"]["false_alarms"]) == {"similar", "variant", "same"}
    assert list(written["index"]) == ["kind", "bytes", "neighbours_recall_at_10"]
    assert written["embedder"]["files"] == []


def test_a_run_over_the_same_makes_nothing_unless_forced(job: IndexConfig) -> None:
    first, console = index(job, said()), said()
    assert index(job, console) is None
    assert f"Nothing changed since the snapshot {first}" in text(console)
    assert hockey(job.data).ids() == [first]
    assert index(replace(job, force=True), said())


def test_plain_vectors_are_not_learned(job: IndexConfig) -> None:
    console = said()
    index(replace(job, learned=False), console)
    assert Snapshot.current(job.data, HOCKEY).manifest.quality.learned is None
    assert "Learned" not in text(console)


def test_a_worse_snapshot_is_written_but_does_not_serve(job: IndexConfig) -> None:
    first = index(job, said())
    for number in range(4):
        (Path(job.source.uri) / f"p{number}.jpg").unlink()
    with pytest.raises(RunStopped, match=r"Only 2 products are left of 6.*FORCE=1"):
        index(job, said())
    assert hockey(job.data).current() == first
    assert len(hockey(job.data).ids()) == 2


def test_the_digest_follows_what_a_snapshot_is_made_from(job: IndexConfig) -> None:
    embedder = load("colour_grid")
    with hockey(job.data).exclusive(), Cache(job.data) as cache:
        run = Run(job, embedder, cache, said())
        indexed = index_images(job.source.read(), job.source.image_url, embedder, cache, job.plan)
        digest = run.digest(indexed, UserPhotos())
        assert run.digest(indexed, UserPhotos()) == digest
        others = [
            run.digest(replace(indexed, contents=["x", *indexed.contents[1:]]), UserPhotos()),
            run.digest(indexed, UserPhotos(indexed.raw)),
            Run(replace(job, learned=False), embedder, cache, said()).digest(indexed, UserPhotos()),
        ]
        assert len({digest, *others}) == 4
        assert run.made_from(CatalogPart("x", material=digest)) is None  # there is no snapshot


def test_few_user_photos_are_all_learned_from_and_none_is_held_out(job: IndexConfig) -> None:
    job = replace(job, user_photos=Path(job.source.uri))
    with Cache(job.data) as cache:
        photos = Run(job, load("colour_grid"), cache, said()).read_user_photos()
    assert photos.raw is not None
    assert (len(photos.raw), photos.held_out) == (6, ())


def test_only_one_run_at_a_time(job: IndexConfig) -> None:
    with hockey(job.data).exclusive(), pytest.raises(ConfigError, match="Another run is indexing"):
        index(job, said())
