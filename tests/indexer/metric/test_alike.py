"""The space in which products are compared: chosen by what the catalog's columns say is alike."""

import numpy as np
import pytest

from indexer.metric.alike import choose_product_space
from indexer.metric.choose import Metric, learn
from indexer.metric.likeness import Likeness, telling_columns
from shared.errors import ConfigError
from shared.index.columns import Column, columns_of
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.vectors.unit import Vectors, normalise, usable

KINDS, EACH = 8, 12


def shop(seed: int) -> tuple[Vectors, RowGroups, list[dict[str, str]]]:
    """Products of some kinds, two images each. A few strong values that tell nothing hide the kind."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(KINDS, 24))
    kinds = np.repeat(np.arange(KINDS), 2 * EACH)
    raw = np.concatenate(
        [middles[kinds] + rng.normal(size=(len(kinds), 24)), 9 + 9 * rng.random((len(kinds), 3))], axis=1
    )
    owners = np.arange(len(kinds)) // 2
    rows = [
        {"kind": f"k{kind}", "code": f"c{owner}", "price": str(owner)}
        for kind, owner in zip(kinds, owners, strict=True)
    ]
    return raw.astype(np.float32), RowGroups.of(map(str, owners.tolist())), rows


def telling(rows: list[dict[str, str]], groups: RowGroups) -> list[Column]:
    return telling_columns(columns_of(rows), groups)


def contents(raw: Vectors) -> list[str]:
    """A content hash for each row, no two the same."""
    return [str(row) for row in range(len(raw))]


def same_kind(vectors: Vectors, groups: RowGroups) -> float:
    """The share of the 10 nearest other products that are of the same kind."""
    nearest = groups.owners_of(build_neighbour_table(vectors, groups, kept=10).rows)
    return float((nearest // EACH == np.arange(groups.count)[:, None] // EACH).mean())


@pytest.mark.parametrize("seed", range(3))
def test_columns_that_repeat_choose_a_space_that_is_better_by_them(seed: int) -> None:
    raw, groups, rows = shop(seed)
    space, part = choose_product_space(
        raw, contents(raw), groups, raw.shape[1], Metric.plain(raw, raw.shape[1]), telling(rows, groups)
    )
    assert space
    assert part.columns == ("kind",)  # neither codes, which do not repeat, nor numbers
    assert part.space == "centred, with neighbours"
    assert part.judged[part.space] > part.judged["centred"] > part.judged["plain"]
    own = space.vectors[:, : raw.shape[1]]
    assert same_kind(space.vectors, groups) > same_kind(normalise(own), groups) > same_kind(normalise(raw), groups)


def test_a_product_that_is_new_finds_its_kind_in_a_space_with_neighbours() -> None:
    raw, groups, rows = shop(0)
    space, _ = choose_product_space(
        raw, contents(raw), groups, raw.shape[1], Metric.plain(raw, raw.shape[1]), telling(rows, groups)
    )
    assert space
    assert space.projection
    unseen, _, _ = shop(0)
    noise = np.random.default_rng(9).normal(size=(len(unseen), 24)).astype(np.float32)
    unseen[:, :24] += 0.7 * noise
    placed = space.projection.images(unseen)
    nearest = groups.owners_of(np.argsort(-(placed @ space.vectors.T), axis=1)[:, :20])
    assert (nearest // EACH == groups.owners[:, None] // EACH).mean() > 0.8


def test_a_picture_that_several_products_show_says_nothing_of_one() -> None:
    """One product of each kind shows the same size chart."""
    raw, groups, rows = shop(2)
    charted = np.arange(1, len(raw), 2 * EACH)  # a second picture of each kind's first product
    raw[charted] = 5
    products, metric = groups.owners[charted], Metric.plain(raw, raw.shape[1])
    right = []
    for shown in (["chart" if row in charted else str(row) for row in range(len(raw))], contents(raw)):
        space, _ = choose_product_space(raw, shown, groups, raw.shape[1], metric, telling(rows, groups))
        assert space
        first = groups.owners_of(build_neighbour_table(space.vectors, groups, kept=1).rows[products, 0])
        right.append((first // EACH == products // EACH).mean())
    assert right[0] > 0.8
    assert right[1] < 0.3


def test_where_plain_vectors_are_best_by_the_columns_they_stay() -> None:
    rng = np.random.default_rng(1)
    kinds = np.repeat(np.arange(KINDS), EACH)
    raw = np.abs(np.eye(KINDS, 32)[kinds] + 0.01 * rng.normal(size=(len(kinds), 32))).astype(np.float32)
    rows = [{"kind": f"k{kind}"} for kind in kinds]
    groups = RowGroups.of(map(str, range(len(raw))))
    space, part = choose_product_space(raw, contents(raw), groups, 32, Metric.plain(raw, 32), telling(rows, groups))
    assert (space, part.space) == (None, "plain")  # it is the metric's own


def test_without_a_telling_column_it_is_with_neighbours_and_what_was_learned_stays_with_photos() -> None:
    raw, groups, _ = shop(4)
    metric = learn(raw, groups.owners, raw.shape[1])
    space, part = choose_product_space(raw, contents(raw), groups, raw.shape[1], metric, [])
    assert space
    assert (part.space, part.columns, part.judged) == ("centred, with neighbours", (), {})
    assert space.vectors.shape == (len(raw), 2 * raw.shape[1])


@pytest.mark.parametrize("count", [1, 2, 19, 60])
def test_pictures_that_are_the_mean_of_all_keep_a_direction_and_few_stay_plain(count: int) -> None:
    raw = np.ones((count, 8), np.float32)
    groups = RowGroups.of(map(str, range(count)))
    space, part = choose_product_space(raw, contents(raw), groups, 8, Metric.plain(raw, 8), [])
    assert part.space == ("plain" if count < 20 else "centred, with neighbours")
    assert space is None if count < 20 else space and usable(space.vectors).all()


def test_named_columns_are_taken_whatever_they_hold_and_unknown_ones_are_named() -> None:
    _, groups, rows = shop(0)
    columns = columns_of(rows)
    assert [column.name for column in telling_columns(columns, groups, ("price", "kind"))] == ["price", "kind"]
    with pytest.raises(ConfigError, match=r"ALIKE names the column 'colour'.* Its columns: kind, code, price"):
        telling_columns(columns, groups, ("colour",))


def test_a_shared_value_is_worth_the_more_the_rarer_it_is_and_the_measure_is_that_of_the_hits() -> None:
    """Worked out by hand: 4 of 8 products share a kind (1 bit), 2 of those a style (2 bits)."""
    rows = [{"kind": kind, "style": style} for kind, style in zip("aaaabbbb", "11234567", strict=True)]
    columns = columns_of(rows)
    likeness = Likeness.of([columns.column("kind"), columns.column("style")], np.arange(8))
    first = np.array([0])
    assert likeness.gains(first, np.array([[1, 2, 4]])).tolist() == [[3, 1, 0]]
    best = 3 + 1 / np.log2(3) + 1 / 2
    assert likeness.ndcg(first, np.array([[1, 2, 3]])) == pytest.approx([1])
    assert likeness.ndcg(first, np.array([[4, 1, 2]])) == pytest.approx([(3 / np.log2(3) + 1 / 2) / best])
    alone = Likeness.of([columns_of([{"kind": str(n)} for n in range(8)]).column("kind")], np.arange(8))
    assert np.isnan(alone.ndcg(first, np.array([[1, 2, 3]]))).all()
