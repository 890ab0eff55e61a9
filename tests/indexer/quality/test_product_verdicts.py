"""Verdicts between products: copies are the same, and first hits of products that have no duplicate are not."""

import numpy as np
import pytest
from PIL import Image

from indexer.quality.product_verdicts import copy_of, fit_product_verdicts, recoloured_of
from shared.images.decode import Picture
from shared.index.columns import columns_of
from shared.index.neighbour_table import build_neighbour_table
from shared.index.row_groups import RowGroups
from shared.snapshot.verdicts import Verdict, Verdicts
from shared.snapshot.writer import ProductSpace
from shared.vectors.unit import Vectors, normalise


class Copies:
    """Stands for `Photos`: the vector of a copy is a little beside the original's."""

    def __init__(self, raw: Vectors, off: float) -> None:
        self._raw, self._off = raw, off

    def embed_changed(self, pictures: list[bytes], change: object, name: str) -> list[Vectors]:
        rng = np.random.default_rng(3)
        rows = self._raw[[int(data) for data in pictures]]
        return [(row + self._off * rng.normal(size=row.shape)).astype(np.float32)[None] for row in rows]


class Indexed:
    """The part of a run's result that verdicts need."""

    def __init__(self, raw: Vectors, styles: list[str]) -> None:
        self.raw, self.plain, self.groups = raw, raw.shape[1], RowGroups.of(map(str, range(len(raw))))
        self.images = [
            type("Image", (), {"product_id": f"p{n}", "attributes": {"style": s}}) for n, s in enumerate(styles)
        ]


def fitted(
    raw: Vectors, styles: list[str], off: float = 0.02, duplicates: tuple[str, ...] = ()
) -> tuple[Verdicts, Vectors]:
    indexed, vectors = Indexed(raw, styles), normalise(raw)
    near = build_neighbour_table(vectors, indexed.groups)
    verdicts = fit_product_verdicts(
        indexed,
        ProductSpace(None, vectors),
        near,
        duplicates,
        Copies(raw, 0.02),
        lambda row: b"%d" % row,
        [columns_of({"style": style} for style in styles).column("style")],  # type: ignore[arg-type]
    )
    assert verdicts
    return verdicts, near.scores


@pytest.mark.parametrize("count", [20, 200, 800])
def test_few_first_hits_are_called_the_same_however_large_the_catalog_is(count: int) -> None:
    raw = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    verdicts, scores = fitted(raw, [f"s{n}" for n in range(count)])
    called = np.array([verdicts.of(score) is Verdict.SAME for score in scores[:, 0]])
    assert called.mean() <= 0.06 if count == 20 else called.mean() <= 0.02
    assert verdicts.false_alarms["same"] == pytest.approx(called.mean(), abs=1e-4)
    assert verdicts.similar <= verdicts.variant <= verdicts.same


def test_copies_are_the_same_where_they_can_be_told_from_others() -> None:
    raw = np.random.default_rng(0).normal(size=(150, 64)).astype(np.float32)
    verdicts, _ = fitted(raw, [f"s{n}" for n in range(150)])
    assert verdicts.lost <= 0.05
    assert verdicts.same < 0.999


def test_known_duplicates_do_not_raise_the_bar() -> None:
    raw = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    raw = np.concatenate([raw, raw[:10] + 1e-4]).astype(np.float32)
    names = tuple(f"p{n}" for n in (*range(10), *range(100, 110)))
    styles = [f"s{n}" for n in range(110)]
    assert fitted(raw, styles)[0].same > 0.999
    assert fitted(raw, styles, duplicates=names)[0].same < 0.999


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
