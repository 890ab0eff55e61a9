"""Verdicts between products: what a variant is, and the rates of the verdicts."""

import numpy as np
import pytest
from PIL import Image

from indexer.quality.product_verdicts import copy_of, fit_product_verdicts, recoloured_of
from shared.images.decode import Picture
from shared.index.columns import columns_of
from shared.index.duplicates import Duplicates
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.snapshot.verdicts import Verdicts
from shared.snapshot.writer import ProductSpace
from shared.vectors.unit import Vectors, normalise
from tests.support.pictures import drawn


class Recoloured:
    """Stands for `Photos`: the vector of a recoloured picture is a little beside the original's."""

    def __init__(self, raw: Vectors, off: float) -> None:
        self._raw, self._off = raw, off

    def embed_changed(self, pictures: list[bytes], change: object, name: str) -> list[Vectors]:
        rng = np.random.default_rng(3)
        rows = self._raw[: len(pictures)]
        return [(row + self._off * rng.normal(size=row.shape)).astype(np.float32)[None] for row in rows]


class Indexed:
    """The part of a run's result that verdicts need."""

    def __init__(self, raw: Vectors, styles: list[str]) -> None:
        self.raw, self.plain, self.groups = raw, raw.shape[1], RowGroups.of(map(str, range(len(raw))))
        self.images = [
            type("Image", (), {"product_id": f"p{n}", "attributes": {"style": s}}) for n, s in enumerate(styles)
        ]


def fitted(raw: Vectors, styles: list[str], duplicates: Duplicates | None = None) -> tuple[Verdicts, Vectors]:
    indexed, vectors = Indexed(raw, styles), normalise(raw)
    near = build_neighbour_table(vectors, indexed.groups)
    verdicts = fit_product_verdicts(
        indexed,
        ProductSpace(None, vectors, vectors.shape[1]),
        near,
        duplicates or Duplicates.of(()),
        Recoloured(raw, 0.02),
        lambda row: drawn(row, (160, 160)),
        [columns_of({"style": style} for style in styles).column("style")],  # type: ignore[arg-type]
    )
    assert verdicts
    return verdicts, near.scores


def test_the_rates_are_those_of_first_hits_of_products_without_a_duplicate() -> None:
    raw = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    raw = np.concatenate([raw, raw[:10] + 1e-4]).astype(np.float32)
    twice = Duplicates.of((n, 100 + n) for n in range(10))
    verdicts, scores = fitted(raw, [f"s{n}" for n in range(110)], twice)
    once = np.r_[10:100]
    assert verdicts.false_alarms["similar"] == pytest.approx((scores[once, 0] >= verdicts.similar).mean(), abs=1e-4)
    assert verdicts.similar <= verdicts.variant <= 1 < verdicts.same  # no score is enough


def test_how_many_copies_pixels_miss_is_measured() -> None:
    raw = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    verdicts, _ = fitted(raw, [f"s{n}" for n in range(60)])
    assert verdicts.lost <= 0.05
    assert verdicts.fitted_on.startswith("48 copies")


def test_variants_are_what_a_column_of_few_products_says() -> None:
    rng = np.random.default_rng(2)
    styles = np.repeat(np.arange(40), 3)
    raw = (3 * rng.normal(size=(40, 32))[styles] + rng.normal(size=(120, 32))).astype(np.float32)
    verdicts, scores = fitted(raw, [f"s{style}" for style in styles])
    near = build_neighbour_table(normalise(raw), RowGroups.of(map(str, range(120))))
    called = scores[:, :10] >= verdicts.variant
    right = styles[near.rows[:, :10]] == styles[:, None]
    assert right[called].mean() >= 0.8
    assert (right & called).sum() >= 0.5 * right.sum()


def test_a_copy_is_the_picture_a_little_smaller() -> None:
    picture: Picture = np.asarray(Image.radial_gradient("L").convert("RGB"))
    copied = copy_of(picture)
    assert copied.shape == (179, 179, 3)
    assert np.abs(copied[90, 90].astype(int) - picture[128, 128].astype(int)).max() < 12


def test_a_recoloured_picture_keeps_its_ground_and_its_shape() -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[16:48, 16:48] = (200, 30, 30)
    changed = recoloured_of(picture).astype(int)
    assert np.abs(changed[:10] - 255).max() < 3
    assert np.abs(changed[20, 20] - picture[20, 20]).max() > 60
    assert (changed[16:48, 16:48] == changed[20, 20]).all()
