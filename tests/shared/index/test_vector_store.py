"""One contract for every store: built fresh in a folder, and opened from it."""

import re
import struct
from pathlib import Path

import faiss
import numpy as np
import pytest

from shared.errors import ConfigError, SnapshotError
from shared.index import faiss_store, stores
from shared.index.faiss_store import build_faiss
from shared.index.vector_store import VectorStore
from shared.vectors.unit import normalise

VECTORS = normalise(np.random.default_rng(3).normal(size=(200, 64)).astype(np.float32))
# kind -> how many bytes are still exact, to have it
KINDS = {"Flat": VECTORS.nbytes, "SQfp16": VECTORS.nbytes // 2, "IVF57,SQfp16": 0}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> VectorStore:
    assert build_faiss(VECTORS, tmp_path / "index.faiss", KINDS[kind]).kind == kind
    return stores.open_store("faiss", tmp_path)


def test_search_equals_brute_force(store: VectorStore, kind: str) -> None:
    queries = normalise(np.random.default_rng(4).normal(size=(70, 64)).astype(np.float32))
    wanted = queries @ VECTORS.T
    scores, rows = store.search(queries, 10)
    right = np.argsort(-wanted, axis=1)[:, :10]
    assert np.allclose(scores, np.take_along_axis(wanted, rows, axis=1), atol=1e-6 if kind == "Flat" else 1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), right.tolist(), strict=True)])
    assert (rows == right).all() if kind == "Flat" else shared >= 0.98


def test_size_and_vectors(store: VectorStore, kind: str) -> None:
    assert (store.count, store.dimension) == (200, 64)
    assert np.allclose(store.vectors(5, 9), VECTORS[5:9], atol=0 if kind == "Flat" else 2e-4)
    assert store.search(store.vectors(0, 200), 1)[1][:, 0].tolist() == list(range(200))


def test_all_rows_can_be_asked_for(store: VectorStore) -> None:
    for k in (50, 199, 200):
        for rows in store.search(VECTORS[:3], k)[1].tolist():
            assert len(set(rows) - {-1}) == k


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("k", [0, -1, 201, 10**9])
def test_a_wrong_k_never_reaches_the_engine(store: VectorStore, k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        store.search(VECTORS[:1], k)


@pytest.mark.parametrize("bad", [np.full((1, 64), np.nan), np.full((1, 64), np.inf), np.ones((1, 63)), np.ones(64)])
def test_a_wrong_query_never_reaches_the_engine(store: VectorStore, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not finite vectors of 64 values"):
        store.search(bad.astype(np.float32), 1)


@pytest.mark.fault("Q7")
@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 201), (5, 5), (-(10**9), -1), (200, 201)])
def test_rows_outside_never_reach_the_engine(store: VectorStore, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        store.vectors(start, stop)


def test_an_unknown_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'pinecone'"):
        stores.build_store("pinecone", VECTORS, tmp_path)


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"junk" * 10)
    with pytest.raises(SnapshotError, match=r"index\.faiss"):
        stores.open_store("faiss", tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("gathered", [0, 1000])
def test_search_among_allowed_rows_equals_brute_force(
    store: VectorStore, kind: str, share: float, gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_store, "_GATHERED", gathered)
    rng = np.random.default_rng(5)
    allowed = rng.random(200) < share
    queries = normalise(rng.normal(size=(70, 64)).astype(np.float32))
    wanted = np.where(allowed, queries @ VECTORS.T, -np.inf)
    for k in (1, 10, int(allowed.sum())):
        scores, rows = store.search(queries, k, allowed)
        assert allowed[rows].all()
        assert np.allclose(scores, np.take_along_axis(wanted, rows, axis=1), atol=1e-6 if kind == "Flat" else 1e-3)
        right = np.argsort(-wanted, axis=1)[:, :k]
        shared = np.mean([len(set(a) & set(b)) / k for a, b in zip(rows.tolist(), right.tolist(), strict=True)])
        assert (rows == right).all() if kind == "Flat" else shared >= 0.95


def test_a_wrong_mask_never_reaches_the_engine(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="k is 3; it must be 1 to 2"):
        store.search(VECTORS[:1], 3, np.arange(200) < 2)
    with pytest.raises(ValueError, match="allowed has the shape"):
        store.search(VECTORS[:1], 1, np.ones(199, bool))


def test_equal_vectors_come_in_one_order(kind: str, tmp_path: Path) -> None:
    build_faiss(np.repeat(VECTORS[:40], 5, axis=0), tmp_path / "index.faiss", KINDS[kind])
    store = stores.open_store("faiss", tmp_path)
    alone = np.concatenate([store.search(VECTORS[row : row + 1], 7)[1] for row in range(40)])
    assert (store.search(VECTORS[:40], 7)[1] == alone).all()


def test_what_the_visited_cells_lack_is_searched_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("_VISITED", "_RECALL"):  # one cell
        monkeypatch.setattr(f"shared.index.faiss_store.{constant}", 0.001)
    build_faiss(VECTORS, tmp_path / "index.faiss", 0)
    store = stores.open_store("faiss", tmp_path)
    scores, rows = store.search(VECTORS[:5], 60)
    assert all(len(set(found) - {-1}) == 60 for found in rows.tolist())
    assert np.allclose(scores, np.take_along_axis(VECTORS[:5] @ VECTORS.T, rows, axis=1), atol=1e-4)


def test_float16_is_not_used_where_answers_would_move(tmp_path: Path) -> None:
    alike = normalise(VECTORS[0] + 0.001 * VECTORS)
    about = build_faiss(alike, tmp_path / "index.faiss", 0)
    assert about.kind == "IVF57,Flat"


@pytest.mark.slow
def test_cells_say_what_they_find_and_take_half_the_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(rng.normal(size=(1000, 64)), 8, axis=0) + 0.5 * rng.normal(size=(8000, 64))
    vectors = normalise(images.astype(np.float32))
    about = build_faiss(vectors, tmp_path / "index.faiss", 0)
    assert about.kind == "IVF358,SQfp16"
    assert (about.recall_at_10 or 0) >= 0.98
    assert 0 < (about.visited or 0) < 100
    assert about.bytes == (tmp_path / "index.faiss").stat().st_size < 0.6 * vectors.nbytes
    held = normalise((images[::8] + 0.3 * rng.normal(size=(1000, 64))).astype(np.float32))
    right = np.argsort(-(held @ vectors.T), axis=1)[:, :10]
    _, rows = stores.open_store("faiss", tmp_path).search(held, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), right.tolist(), strict=True)]) >= 0.98


def test_vectors_are_mapped_not_read(tmp_path: Path) -> None:
    vectors = normalise(np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32))
    for name, exact_bytes in (("exact", 10**9), ("cells", 0)):
        (tmp_path / name).mkdir()
        build_faiss(vectors[: 20_000 if exact_bytes else 4000], tmp_path / name / "index.faiss", exact_bytes)

    def own_memory() -> int:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]

    before = own_memory()
    opened = [stores.open_store("faiss", tmp_path / "exact") for _ in range(5)]
    opened += [stores.open_store("faiss", tmp_path / "cells") for _ in range(5)]
    assert all(store.search(vectors[:1], 5)[1][0, 0] == 0 for store in opened)
    assert own_memory() - before < 20_000


@pytest.mark.parametrize("size", [(199, 64), (200, 63)])
def test_a_store_of_another_size_is_refused(store: VectorStore, tmp_path: Path, size: tuple[int, int]) -> None:
    assert stores.open_store("faiss", tmp_path, size=(store.count, store.dimension)).count == 200
    with pytest.raises(SnapshotError, match="not the size that its manifest states"):
        stores.open_store("faiss", tmp_path, size=size)


def test_a_file_that_states_more_rows_than_it_has_takes_no_memory(store: VectorStore, tmp_path: Path) -> None:
    path, many = tmp_path / "index.faiss", 2**40
    path.write_bytes(path.read_bytes().replace(struct.pack("<q", 200), struct.pack("<q", many)))
    for size in (None, (200, 64), (many, 64)):
        with pytest.raises(SnapshotError, match=r"FAISS cannot read|lacks rows|size"):
            stores.open_store("faiss", tmp_path, size=size)


def test_an_array_is_no_larger_than_the_file(store: VectorStore, tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    stores.open_store("faiss", tmp_path)
    assert faiss.get_deserialization_vector_byte_limit() == path.stat().st_size


def test_an_index_of_a_kind_that_is_never_written_is_refused(tmp_path: Path) -> None:
    for kind in ("HNSW8", "PCA8,Flat", "IDMap,Flat"):
        index = faiss.index_factory(64, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(VECTORS)
        if not kind.startswith("IDMap"):
            index.add(VECTORS)
        faiss.write_index(index, str(tmp_path / "index.faiss"))
        with pytest.raises(SnapshotError, match="is not of the kind"):
            stores.open_store("faiss", tmp_path)
