"""The space in which products are compared: chosen by what the catalog's columns say is alike."""

import numpy as np
import pytest

from indexer.metric.alike import choose_product_space
from indexer.metric.choose import Metric, learn
from shared.index.columns import columns_of
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


def same_kind(vectors: Vectors, groups: RowGroups) -> float:
    """The share of the 10 nearest other products that are of the same kind."""
    nearest = groups.owners_of(build_neighbour_table(vectors, groups, kept=10).rows)
    return float((nearest // EACH == np.arange(groups.count)[:, None] // EACH).mean())


@pytest.mark.parametrize("seed", range(3))
def test_columns_that_repeat_choose_a_space_that_is_better_by_them(seed: int) -> None:
    raw, groups, rows = shop(seed)
    space, part = choose_product_space(raw, groups, raw.shape[1], Metric.plain(raw, raw.shape[1]), columns_of(rows))
    assert space
    assert part.columns == ("kind",)  # neither codes, which do not repeat, nor numbers
    assert part.space == "centred"
    assert part.judged["centred"] > part.judged["plain"]
    assert same_kind(space.vectors, groups) > same_kind(normalise(raw), groups)
    assert space.projection
    assert np.allclose(space.projection.images(raw), space.vectors, atol=1e-5)


def test_where_plain_vectors_are_best_by_the_columns_they_stay() -> None:
    rng = np.random.default_rng(1)
    kinds = np.repeat(np.arange(KINDS), EACH)
    raw = np.abs(np.eye(KINDS, 32)[kinds] + 0.01 * rng.normal(size=(len(kinds), 32))).astype(np.float32)
    rows = [{"kind": f"k{kind}"} for kind in kinds]
    groups = RowGroups.of(map(str, range(len(raw))))
    space, part = choose_product_space(raw, groups, 32, Metric.plain(raw, 32), columns_of(rows))
    assert (space, part.space) == (None, "plain")  # it is the metric's own


def test_without_a_telling_column_it_is_rooted_and_centred_and_what_was_learned_stays_with_photos() -> None:
    raw, groups, _ = shop(4)
    metric = learn(raw, groups.owners, raw.shape[1])
    space, part = choose_product_space(raw, groups, raw.shape[1], metric, columns_of([{}] * len(raw)))
    assert space
    assert (part.space, part.columns, part.judged) == ("centred", (), {})
    assert space.vectors.shape == raw.shape


@pytest.mark.parametrize("count", [1, 2, 19, 60])
def test_pictures_that_are_the_mean_of_all_keep_a_direction_and_few_stay_plain(count: int) -> None:
    raw = np.ones((count, 8), np.float32)
    groups = RowGroups.of(map(str, range(count)))
    space, part = choose_product_space(raw, groups, 8, Metric.plain(raw, 8), columns_of([{}] * count))
    assert part.space == ("plain" if count < 20 else "centred")
    assert space is None if count < 20 else space and usable(space.vectors).all()
