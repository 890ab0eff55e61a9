"""Products, neighbours and both questions, on vectors small enough to work out by hand; and against brute force."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared.embedding.registry import load
from shared.errors import BadPicture, BadQuestion, UnknownProduct
from shared.index import faiss_store, product_table
from shared.index import neighbour_table as near
from shared.index.faiss_store import build_faiss
from shared.index.product_table import ProductImage, StoredTable, write_products
from shared.index.row_groups import RowGroups
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.search.search import similar_to_photo, similar_to_product, similar_to_vectors
from shared.vectors.unit import normalise
from tests.support.snapshots import crowd, snapshot_of, unit

A, B, C = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


def ids(answers: list[Hit]) -> list[str]:
    return [answer.image.product_id for answer in answers]


def brute_force(products: list[str], vectors: np.ndarray, queries: np.ndarray, k: int, without: str) -> list[str]:
    best: dict[str, float] = {}
    for product, score in zip(products, (queries @ vectors.T).max(axis=0).round(6), strict=True):
        best[product] = max(best.get(product, -2), float(score))
    best.pop(without, None)
    order = {product: at for at, product in enumerate(dict.fromkeys(products))}
    return sorted(best, key=lambda product: (-best[product], order[product]))[:k]


def test_a_product_counts_once_by_its_best_image(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "q", "q", "r"], unit(A, B, [1, 0.5, 0], [1, 1, 1]))
    answers = similar_to_product(snapshot, "p", SearchParams(5))
    assert ids(answers) == ["q", "r"]
    assert [answer.rank for answer in answers] == [1, 2]
    assert answers[0].score == pytest.approx(1 / 1.25**0.5, abs=1e-5)
    assert answers[0].image == ProductImage("q", "i2", "http://cdn/2.jpg", {"name": "q!"})


def test_several_images_of_the_asked_product_all_ask(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "p", "q", "r"], unit(A, C, [1, 1, 0], [0, 0.2, 1]))
    assert ids(similar_to_product(snapshot, "p")) == ["r", "q"]


def test_ties_stand_in_the_catalogs_order(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["z", "b", "a", "c"], unit(A, B, B, B))
    assert ids(similar_to_product(snapshot, "z")) == ["b", "a", "c"]
    assert ids(similar_to_vectors(snapshot, unit(B), SearchParams(2))) == ["b", "a"]


def test_ties_within_rounding_keep_the_catalogs_order_also_past_what_was_fetched_first(tmp_path: Path) -> None:
    almost = [1.0, 6e-4, 0.0]  # its score rounds to the others' 1.0, but comes after theirs
    snapshot = snapshot_of(tmp_path, [f"p{n}" for n in range(200)], unit(almost, *[A] * 199))
    assert ids(similar_to_vectors(snapshot, unit(A), SearchParams(2))) == ["p0", "p1"]


@pytest.mark.parametrize("k", [1, 10, 100, 150, 1000])
def test_product_to_products_equals_brute_force(tmp_path: Path, k: int) -> None:
    products, vectors = crowd()
    snapshot = snapshot_of(tmp_path, products, vectors)
    for asked in ("p0", "p77", "p299"):
        queries = vectors[[product == asked for product in products]]
        assert ids(similar_to_product(snapshot, asked, SearchParams(k))) == brute_force(
            products, vectors, queries, k, asked
        )


@pytest.mark.parametrize("k", [1, 10, 299, 1000])
def test_photo_to_products_equals_brute_force(tmp_path: Path, k: int) -> None:
    products, vectors = crowd()
    snapshot = snapshot_of(tmp_path, products, vectors)
    for query in crowd(3, seed=5)[1]:
        answers = similar_to_vectors(snapshot, query[None], SearchParams(k))
        assert ids(answers) == brute_force(products, vectors, query[None], k, "")


@pytest.mark.parametrize("k", [1, 10, 299, 1000])
def test_a_snapshot_with_cells_answers_whatever_k_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(faiss_store, "build_faiss", partial(build_faiss, exact_bytes=0))
    products, _ = crowd()
    vectors = normalise(np.random.default_rng(1).normal(size=(len(products), 32)).astype(np.float32))
    snapshot = snapshot_of(tmp_path, products, vectors)
    assert snapshot.manifest.index.kind == "IVF123,SQfp16"
    for asked in ("p0", "p77"):
        queries = vectors[[product == asked for product in products]]
        number = snapshot.products.find(asked)
        assert number is not None
        answers = ids(similar_to_vectors(snapshot, queries, SearchParams(k), without=frozenset({number})))
        wanted = brute_force(products, vectors, queries, k, asked)
        assert len(set(answers)) == len(answers) == len(wanted)
        assert len(set(answers) & set(wanted)) >= 0.9 * len(wanted)


def test_neighbours_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    products, vectors = crowd(80)
    groups = RowGroups.of(products)
    whole = near.build_neighbour_table(vectors, groups, 20)
    monkeypatch.setattr(near, "_BLOCK_BYTES", 1)
    blocks = near.build_neighbour_table(vectors, groups, 20)
    assert np.allclose(whole.scores, blocks.scores, atol=2e-6)
    apart = np.abs(np.diff(whole.scores, prepend=2, append=-2, axis=1)) > 4e-6
    sure = apart[:, :-1] & apart[:, 1:]
    assert sure.any()
    assert (groups.owners_of(whole.rows) == groups.owners_of(blocks.rows))[sure].all()


def test_one_product_has_no_neighbours(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "p"], unit(A, B))
    assert similar_to_product(snapshot, "p") == []
    assert ids(similar_to_vectors(snapshot, unit(C), SearchParams(5))) == ["p"]


@pytest.mark.parametrize("k", [0, -1, 1001, 10**9])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(BadQuestion, match="1 to 1,000"):
        SearchParams(k)


def test_an_unknown_product_and_a_bad_photo(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "q"], unit(A, B))
    with pytest.raises(UnknownProduct, match="'nope'"):
        similar_to_product(snapshot, "nope")
    with pytest.raises(BadPicture) as caught:
        similar_to_photo(snapshot, load("colour_grid"), b"text")
    assert caught.value.kind == "unsupported_format"


def test_the_table_finds_every_product_and_only_those(tmp_path: Path) -> None:
    names = ["0341", "../x", "a/b", "", "é" * 999, "\x00", "😀", "\u202e"]
    write_products([ProductImage(name, "i", "u", {"k": name}) for name in names for _ in range(2)], tmp_path)
    table = StoredTable(tmp_path)
    assert [table.find(name) for name in names] == list(range(len(names)))
    assert table.find("341") is None
    assert table.image(5).attributes == {"k": "a/b"}
    assert list(table.images(3)) == [6, 7]
    assert table.owners(np.array([0, 1, 2, 15])).tolist() == [0, 0, 1, 7]


def test_products_with_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_table, "_hash", lambda product_id: 7)
    write_products([ProductImage(name, "i", "u", {}) for name in "abc"], tmp_path)
    table = StoredTable(tmp_path)
    assert [table.find(name) for name in "abcd"] == [0, 1, 2, None]


def test_scattered_images_of_a_product_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stand together"):
        write_products([ProductImage(name, "i", "u", {}) for name in "aba"], tmp_path)
