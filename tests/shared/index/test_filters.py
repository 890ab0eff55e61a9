"""Filters: how they are read, which rows they admit, and that answers under them equal brute force."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import BadQuestion, SnapshotError
from shared.index.columns import StoredColumns, columns_of, open_columns, write_columns
from shared.index.filters import LONGEST, Condition, Filter, Range, parse
from shared.index.neighbour_table import NeighbourTable
from shared.search.params import SearchParams
from shared.search.queries import product_query
from shared.search.search import similar_to_product, similar_to_query, similar_to_vectors
from shared.snapshot import writer
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import Verdict
from shared.vectors.unit import normalise
from tests.support.snapshots import catalog, snapshot_of, unit

ROWS: list[dict[str, str]] = [
    {"brand": "CCM", "price": "19.99", "in stock": "True", "note": 'a "b", c'},
    {"brand": "Bauer ", "price": "80", "in stock": "false", "note": "x..y"},
    {"brand": "", "price": "", "in stock": "true", "note": "1;2:3"},
    {"brand": "Éclair", "price": "-5", "in stock": "TRUE"},
]


def admitted(text: str, rows: list[dict[str, str]] = ROWS) -> list[int]:
    wanted = parse([text])
    assert wanted
    return np.flatnonzero(columns_of(rows).mask(wanted)).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("brand:ccm", [0]),
        (" brand : ccm , BAUER ", [0, 1]),
        ("brand:éCLAIR", [3]),
        ("brand:eclair", []),  # accents tell values apart
        ('brand:""', [2]),
        ('brand:"",ccm', [0, 2]),
        ("price:20..80", [1]),
        ("price:19.99..80", [0, 1]),
        ("price:..0", [3]),
        ("price:0..", [0, 1]),
        ("price:-5..-5", [3]),
        ("price:80,..0", [1, 3]),
        ("price:1e1..2E1", [0]),
        ("in stock:true", [0, 2, 3]),
        ("in stock:true;price:0..", [0]),
        ('note:"a ""b"", c"', [0]),
        ('note:"x..y"', [1]),
        ('note:" X..Y ";brand:"BAUER"', [1]),
        ('"note":"1;2:3" , "x..y"', [1, 2]),
        ("note:nothing", []),
        ('note:""', [3]),
    ],
)
def test_which_rows_a_filter_admits(text: str, rows: list[int]) -> None:
    assert admitted(text) == rows


def test_repeated_filters_all_hold_and_empty_ones_ask_for_nothing() -> None:
    assert parse(["brand:a;price:1..2"]) == parse(["brand:a", "", "price:1..2"])
    assert parse(["a:b,1..2"]) == Filter((Condition("a", ("b", Range(1, 2))),))
    assert parse([]) is parse([" ", ""]) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour:red", "'colour', which the catalog has not. Its columns: brand, price, in stock, note"),
        ("brand", "no single ':' in 'brand'"),
        ("brand:a:b", "no single ':'"),
        ("brand:", "no value for 'brand'"),
        ("brand:a,,b", "no value for 'brand'"),
        ("brand:a;", "no single ':'"),
        (":a", "no column before"),
        ("price:80..20", "'80..20' for 'price'; a range goes from the lower"),
        ("price:..", "a range is 20..80"),
        ("price:a..b", "a range is 20..80"),
        ("price:nan..inf", "a range is 20..80"),
        ("price:1_0..", "a range is 20..80"),
        ("brand:1..2", "range for 'brand', whose values are not all numbers"),
        ('brand:"a', "quotes that do not end"),
        ('brand:"a"b', "quotes that do not end"),
        ("x" * (LONGEST + 1), "the limit is 8,000"),
    ],
)
def test_a_wrong_filter_is_named(text: str, why: str) -> None:
    with pytest.raises(BadQuestion) as caught:
        admitted(text)
    assert str(caught.value).startswith("filter has")
    assert why in str(caught.value)


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    for text in (" " * LONGEST, '"' * LONGEST, "a:" + " " * 7900 + '"', "a:" + "," * 7900):
        with pytest.raises(BadQuestion):
            parse([text + "x"])


def test_columns_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    columns = columns_of(ROWS)
    write_columns(columns, tmp_path)
    opened = open_columns(tmp_path, len(ROWS))
    assert opened
    for name in columns.names:
        for column in (columns.column(name), opened.column(name)):
            assert [column.values[code] for code in column.codes] == [row.get(name, "") for row in ROWS]
    with pytest.raises(SnapshotError, match="3 rows"):
        open_columns(tmp_path, 3)
    assert columns_of([{}, {}]).names == []


def test_a_mask_is_computed_once_and_cannot_be_changed() -> None:
    columns, wanted = columns_of(ROWS), parse(["brand:ccm"])
    assert wanted
    mask = columns.mask(wanted)
    assert columns.mask(wanted) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def any_filter(dice: random.Random, count: int) -> tuple[str, Any]:
    """A filter as text, and as a predicate over a row's attributes."""
    low = dice.randrange(200)
    high = low + dice.randrange(100)
    code = dice.randrange(count)
    span = dice.choice([15, count // 10])

    def number(row: Mapping[str, str], name: str) -> float:
        return float(row[name] or "nan")

    choices = [
        ("brand:ccm,bauer", lambda row: row["brand"] in ("CCM", "Bauer")),
        ('brand:"",warrior', lambda row: row["brand"] in ("", "Warrior")),
        (f"price:{low}..{high}", lambda row: low <= number(row, "price") <= high),
        (f"price:..{low},19.99", lambda row: number(row, "price") <= low or row["price"] == "19.99"),
        (f"code:{code}..{code + span}", lambda row: code <= number(row, "code") <= code + span),
        ("view:side", lambda row: row["view"] == "side"),
    ]
    picked = dice.sample(choices, dice.randint(1, 3))
    return ";".join(text for text, _ in picked), lambda row: all(holds(row) for _, holds in picked)


def best_products(
    products: list[str], scores: np.ndarray, admits: list[bool], without: frozenset[str]
) -> list[tuple[str, int, float]]:
    """All products in order, each with its best admitted row and score: nothing but Python."""
    best: dict[str, tuple[float, int]] = {}
    for row, (product, score, admitted) in enumerate(zip(products, scores.round(6).tolist(), admits, strict=True)):
        if admitted and product not in without and (product not in best or score > best[product][0]):
            best[product] = (score, row)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[1][1]))
    return [(product, row, score) for product, (score, row) in ranked]


def agree(found: list[Any], wanted: list[tuple[str, int, float]], ranks: range) -> None:
    """Answers are those of brute force, but that scores are computed another way and may differ in their last digit."""
    assert [answer.rank for answer in found] == list(ranks)[: len(found)]
    page = wanted[ranks.start - 1 : ranks.stop - 1]
    assert np.allclose([answer.score for answer in found], [score for _, _, score in page], atol=2e-6)
    exact = {product: (row, score) for product, row, score in wanted}
    for answer, (product, row, _) in zip(found, page, strict=True):
        if answer.row != row:  # then the two tie to the last digit
            assert abs(exact[answer.image.product_id][1] - exact[product][1]) <= 2e-6


@pytest.mark.parametrize("coarse", [True, False])
def test_answers_under_random_filters_pages_and_exclusions_equal_brute_force(tmp_path: Path, coarse: bool) -> None:
    dice = random.Random(7)
    rng = np.random.default_rng(7)
    for seed in range(4):
        count = dice.choice([3, 40, 400])
        products, rows = catalog(seed, count)
        # Coarse values make many scores equal.
        drawn = rng.integers(-1, 2, (len(products), 4)) if coarse else rng.normal(size=(len(products), 24))
        vectors = normalise((drawn + np.array(([0] * (drawn.shape[1] - 1)) + [0.5])).astype(np.float32))
        snapshot = snapshot_of(tmp_path / f"{seed}", products, vectors, attributes=rows)
        for _ in range(60):
            text, admits = any_filter(dice, count) if dice.random() < 0.7 else ("", lambda row: True)
            k, offset = dice.choice([1, 10, 100, 900]), dice.choice([0, 0, 3, 60, 100])
            exclude = frozenset([*dice.sample(products, dice.choice([0, 0, 2])), "nope"])
            floor = dice.choice([-1.0, -1.0, 0.4])
            wanted = SearchParams(k, offset=offset, exclude=exclude, min_score=floor, filter=parse([text]))
            asked = dice.choice(products)
            queries = vectors[[p == asked for p in products]]
            likeness = (queries @ vectors.T).max(axis=0)
            right = best_products(products, likeness, [admits(r) for r in rows], exclude | {asked})
            right = [answer for answer in right if answer[2] >= np.float32(floor) - 1e-9]
            ranks = range(offset + 1, offset + k + 1)
            agree(similar_to_product(snapshot, asked, wanted), right, ranks)
            right = best_products(products, likeness, [admits(r) for r in rows], exclude)
            right = [answer for answer in right if answer[2] >= np.float32(floor) - 1e-9]
            agree(similar_to_vectors(snapshot, queries, wanted), right, ranks)


@pytest.mark.slow
def test_where_15_of_10_000_products_are_left_k_10_is_right_for_1_000_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = NeighbourTable(np.zeros((10_000, 0), np.int32), np.zeros((10_000, 0), np.float32))
    monkeypatch.setattr(writer, "build_neighbour_table", lambda *_: none)  # they take most of a minute
    rng = np.random.default_rng(0)
    vectors = normalise(rng.normal(size=(10_000, 64)).astype(np.float32))
    products = [f"p{n}" for n in range(10_000)]
    groups = rng.permuted(np.arange(10_000) // 15)
    snapshot = snapshot_of(tmp_path, products, vectors, attributes=[{"group": f"G{n}"} for n in groups.tolist()])
    queries = normalise(rng.normal(size=(1000, 64)).astype(np.float32))
    scores = queries @ vectors.T
    for number in range(1000):
        group = number % 666
        rows = np.flatnonzero(groups == group)
        assert len(rows) == 15
        right = [(f"p{row}", int(row), float(scores[number, row].round(6))) for row in rows]
        right.sort(key=lambda answer: (-answer[2], answer[1]))
        found = similar_to_vectors(snapshot, queries[number, None], SearchParams(10, filter=parse([f"group:g{group}"])))
        assert len(found) == 10
        agree(found, right, range(1, 11))


def test_a_filter_that_admits_nothing_has_no_answers(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, ["p", "q"], normalise(np.eye(2, dtype=np.float32)))
    assert similar_to_product(snapshot, "p", SearchParams(filter=parse(["name:zzz"]))) == []
    only_itself = SearchParams(filter=parse(['name:"p!"']))
    assert similar_to_product(snapshot, "p", only_itself) == []


def test_of_a_million_rows_a_filter_admits_the_right_ones() -> None:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, 50, 1_000_000), rng.integers(0, 1000, 1_000_000)]).astype(np.int32)
    lines = ['["brand", "price"]', str([f"b{n}" for n in range(50)]), str([str(n / 10) for n in range(1000)])]
    columns = StoredColumns("".join(f"{line}\n" for line in lines).replace("'", '"').encode(), codes)
    wanted = [parse([f"brand:b{n},b{n + 1};price:20..{30 + n}"]) for n in range(10)]
    masks = [columns.mask(filter) for filter in wanted if filter]
    assert (
        np.flatnonzero(masks[0]).tolist()
        == np.flatnonzero((codes[0] < 2) & (codes[1] >= 200) & (codes[1] <= 300)).tolist()
    )


def lettered(tmp_path: Path, quality: Mapping[str, Any]) -> Snapshot:
    """Products a to f, less and less like a."""
    vectors = unit(*([1, 0.3 * n, 0] for n in range(6)))
    return snapshot_of(tmp_path, list("abcdef"), vectors, quality=quality)


LEVELS = {"similar": 0.5, "variant": 0.7, "same": 0.9, "false_alarms": {}, "lost": 0.0, "fitted_on": "nothing"}
# Asked by a photo of a, the evidence for a to f is 0.45, 0.39, 0.24, 0.07, -0.09 and -0.20.
PHOTO_LEVELS = {**LEVELS, "similar": 0.05, "variant": 0.2, "same": 0.35}


def test_verdicts_are_about_the_catalog_whatever_is_wanted_of_it(tmp_path: Path) -> None:
    # b would be the same if c, which it is not, were left out of its rivals.
    snapshot = lettered(tmp_path, {"verdicts": {"photo": {**PHOTO_LEVELS, "same": 0.52}, "product": LEVELS}})
    query = snapshot.store.vectors(0, 1)
    everything = {n.image.product_id: n.verdict for n in similar_to_vectors(snapshot, query)}
    assert everything == {"a": "same", "b": "variant", "c": "variant", "d": "similar", "e": "none", "f": "none"}
    for wanted in (
        SearchParams(exclude=frozenset("ac")),
        SearchParams(offset=2),
        SearchParams(2, offset=1),
        SearchParams(filter=parse(["name:b!,d!"])),
    ):
        for answer in similar_to_vectors(snapshot, query, wanted):
            assert answer.verdict == everything[answer.image.product_id]


@pytest.mark.parametrize(
    ("verdict", "photo", "product"), [("same", "ab", "b"), ("variant", "abc", "bcd"), ("similar", "abcd", "bcdef")]
)
def test_at_least_that_alike(tmp_path: Path, verdict: str, photo: str, product: str) -> None:
    snapshot = lettered(tmp_path, {"verdicts": {"photo": PHOTO_LEVELS, "product": LEVELS}})
    found = similar_to_vectors(snapshot, snapshot.store.vectors(0, 1), SearchParams(verdict=Verdict(verdict)))
    assert "".join(answer.image.product_id for answer in found) == photo
    found = similar_to_product(snapshot, "a", SearchParams(verdict=Verdict(verdict)))
    assert "".join(answer.image.product_id for answer in found) == product
    found = similar_to_product(snapshot, "a", SearchParams(1, offset=1, verdict=Verdict(verdict)))
    assert "".join(answer.image.product_id for answer in found) == product[1:2]


def test_a_verdict_cannot_be_asked_for_where_none_was_fitted(tmp_path: Path) -> None:
    with pytest.raises(BadQuestion, match="not fitted"):
        similar_to_product(lettered(tmp_path, {}), "a", SearchParams(verdict=Verdict.SAME))


@pytest.mark.parametrize(
    "how", [{}, {"diversity": 0.4}, {"diversity": 0.9}, {"collapse": True}, {"collapse": True, "diversity": 0.4}]
)
@pytest.mark.slow
def test_pages_fit_together(tmp_path: Path, how: dict[str, Any]) -> None:
    products, _ = catalog(3, 200)
    vectors = normalise(np.random.default_rng(3).normal(size=(len(products), 4)).astype(np.float32))
    levels = {**LEVELS, "variant": 0.97}
    snapshot = snapshot_of(tmp_path, products, vectors, quality={"verdicts": {"product": levels}})
    for asked in ("p0", "p7"):
        whole = similar_to_product(snapshot, asked, SearchParams(1000, **how))
        pages = [
            similar_to_product(snapshot, asked, SearchParams(7, offset=offset, **how)) for offset in range(0, 210, 7)
        ]
        assert [answer for page in pages for answer in page] == whole
        assert len({answer.image.product_id for answer in whole}) == len(whole)
        assert len(whole) == 199 if "collapse" not in how else 20 < len(whole) < 150


def test_pages_fit_together_where_the_search_rounds_otherwise_than_the_table(tmp_path: Path) -> None:
    products, _ = catalog(3, 200)
    vectors = normalise(np.random.default_rng(3).normal(size=(len(products), 4)).astype(np.float32))
    snapshot = snapshot_of(tmp_path, products, vectors)
    table = snapshot.neighbour_table
    snapshot.neighbour_table = NeighbourTable(table.rows, (table.scores - np.float32(0.000002)).round(6))
    whole = similar_to_product(snapshot, "p0", SearchParams(1000))
    pages = [similar_to_product(snapshot, "p0", SearchParams(7, offset=offset)) for offset in range(0, 210, 7)]
    assert [answer for page in pages for answer in page] == whole
    assert len({answer.image.product_id for answer in whole}) == len(whole) == 199
    assert [answer.rank for answer in whole] == list(range(1, 200))
    assert [answer.score for answer in whole] == sorted((answer.score for answer in whole), reverse=True)


@pytest.mark.parametrize(
    "wanted",
    [
        SearchParams(100), SearchParams(50, offset=50), SearchParams(90, exclude=frozenset(f"p{n}" for n in range(10))),
        SearchParams(1000, min_score=0.9), SearchParams(1000, verdict=Verdict.SAME),
    ],
)  # fmt: skip
def test_the_neighbour_table_answers_while_it_suffices(
    tmp_path: Path, wanted: SearchParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    products, _ = catalog(3, 300)
    vectors = normalise(np.random.default_rng(3).normal(size=(len(products), 6)).astype(np.float32))
    snapshot = snapshot_of(tmp_path, products, vectors, quality={"verdicts": {"product": LEVELS}})
    searched = similar_to_query(snapshot, product_query(snapshot, "p77"), wanted)
    monkeypatch.setattr(snapshot.store, "search", lambda *_: 1 / 0)
    answers = similar_to_product(snapshot, "p77", wanted)
    assert [(n.rank, n.row, n.verdict) for n in answers] == [(n.rank, n.row, n.verdict) for n in searched]
    assert answers
    with pytest.raises(ZeroDivisionError):
        similar_to_product(snapshot, "p77", SearchParams(100, offset=1))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"k": 1001}, "k is 1001"),
        ({"offset": -1}, "offset is -1"),
        ({"offset": 991}, "offset is 991"),
        ({"min_score": 1.1}, "min_score is 1.1"),
        ({"min_score": float("nan")}, "min_score is nan"),
        ({"verdict": "none"}, "verdict is 'none'"),
        ({"exclude": frozenset(map(str, range(1001)))}, "exclude has 1,001 products"),
    ],
)
def test_what_cannot_be_wanted(how: dict[str, Any], why: str) -> None:
    with pytest.raises(BadQuestion, match=why):
        SearchParams(**how)
