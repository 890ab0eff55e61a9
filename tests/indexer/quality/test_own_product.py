"""Indexed images find their own product, and those that do not are named."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from indexer.metric.choose import Metric
from indexer.quality.own_product import astray, sentence
from shared.index.duplicates import Duplicates
from shared.index.product_table import ProductImage
from shared.index.row_groups import RowGroups
from shared.vectors.unit import Vectors, normalise


def indexed(raw: Vectors, contents: list[str] | None = None) -> Any:
    images = [ProductImage(f"p{n}", f"i{n}", "u", {}) for n in range(len(raw))]
    groups = RowGroups.of(image.product_id for image in images)
    names = contents or [f"c{n}" for n in range(len(raw))]
    return SimpleNamespace(raw=raw, plain=raw.shape[1], groups=groups, images=images, contents=names)


def vectors(count: int = 40) -> Vectors:
    return np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)


def test_all_are_found_and_nothing_is_said() -> None:
    raw = vectors()
    assert astray(indexed(raw), Metric.plain(raw, 16), Duplicates.of(())) == []
    assert sentence([], 40) == ""


def test_an_image_whose_row_was_lost_is_named_with_what_it_finds() -> None:
    """As if two rows had been swapped when the index was written."""
    raw = vectors()
    swapped = normalise(raw)
    swapped[[3, 8]] = swapped[[8, 3]]
    lost = astray(indexed(raw), Metric(None, swapped), Duplicates.of(()))
    assert [(one.image.product_id, one.found.product_id) for one in lost] == [("p3", "p8"), ("p8", "p3")]
    said = sentence(lost, 40)
    assert "Of 40 indexed images" in said
    assert "image i3 of p3" in said
    assert "finds p8 (1.00)" in said


def test_twins_may_find_each_other() -> None:
    raw = vectors()
    swapped = normalise(raw)
    swapped[[3, 8]] = swapped[[8, 3]]
    assert astray(indexed(raw), Metric(None, swapped), Duplicates.of([(3, 8)])) == []
    contents = [f"c{n}" if n != 8 else "c3" for n in range(40)]
    assert astray(indexed(raw, contents), Metric(None, swapped), Duplicates.of(())) == []
