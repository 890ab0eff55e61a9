"""One contract for every store: built fresh in a folder, and opened from it."""

from pathlib import Path

import numpy as np
import pytest

from shared import stores
from shared.errors import ConfigError, SnapshotError
from shared.stores import VectorStore
from shared.vectors import normalise

VECTORS = normalise(np.random.default_rng(3).normal(size=(200, 16)).astype(np.float32))


@pytest.fixture(params=stores.NAMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> VectorStore:
    stores.build(request.param, VECTORS, tmp_path)
    return stores.open_store(tmp_path)


def test_search_equals_brute_force(store: VectorStore) -> None:
    queries = normalise(np.random.default_rng(4).normal(size=(7, 16)).astype(np.float32))
    wanted = queries @ VECTORS.T
    scores, rows = store.search(queries, 10)
    assert (rows == np.argsort(-wanted, axis=1)[:, :10]).all()
    assert np.allclose(scores, np.sort(wanted, axis=1)[:, ::-1][:, :10], atol=1e-6)


def test_size_and_vectors(store: VectorStore) -> None:
    assert (store.count, store.dimension) == (200, 16)
    assert np.allclose(store.vectors(5, 9), VECTORS[5:9])


def test_all_rows_can_be_asked_for(store: VectorStore) -> None:
    assert set(store.search(VECTORS[:1], 200)[1][0].tolist()) == set(range(200))


@pytest.mark.parametrize("k", [0, -1, 201, 10**9])
def test_a_wrong_k_never_reaches_the_engine(store: VectorStore, k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        store.search(VECTORS[:1], k)


@pytest.mark.parametrize("bad", [np.full((1, 16), np.nan), np.full((1, 16), np.inf), np.ones((1, 15)), np.ones(16)])
def test_a_wrong_query_never_reaches_the_engine(store: VectorStore, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not finite vectors of 16 values"):
        store.search(bad.astype(np.float32), 1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 201), (5, 5), (-(10**9), -1), (200, 201)])
def test_rows_outside_never_reach_the_engine(store: VectorStore, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        store.vectors(start, stop)


def test_an_unknown_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'pinecone'"):
        stores.build("pinecone", VECTORS, tmp_path)


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"junk" * 10)
    with pytest.raises(SnapshotError, match=r"index\.faiss"):
        stores.open_store(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("gathered", [0, 1000])
def test_search_among_allowed_rows_equals_brute_force(
    store: VectorStore, share: float, gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stores.faiss._GATHERED", gathered)
    rng = np.random.default_rng(5)
    allowed = rng.random(200) < share
    queries = normalise(rng.normal(size=(7, 16)).astype(np.float32))
    wanted = np.where(allowed, queries @ VECTORS.T, -np.inf)
    for k in (1, int(allowed.sum())):
        scores, rows = store.search(queries, k, allowed)
        assert (rows == np.argsort(-wanted, axis=1)[:, :k]).all()
        assert np.allclose(scores, np.sort(wanted, axis=1)[:, ::-1][:, :k], atol=1e-6)


def test_a_wrong_mask_never_reaches_the_engine(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="k is 3; it must be 1 to 2"):
        store.search(VECTORS[:1], 3, np.arange(200) < 2)
    with pytest.raises(ValueError, match="allowed has the shape"):
        store.search(VECTORS[:1], 1, np.ones(199, bool))
