"""Choosing the metric that a catalog teaches: parts are kept where they win on held-out material, and only there."""

import os
from pathlib import Path

import numpy as np
import pytest

from indexer.metric.choose import Metric, learn
from indexer.metric.fit import Features, fit
from shared.errors import SnapshotError
from shared.snapshot.manifest import PhotoUse, Recipe
from shared.storage.arrays import write_array
from shared.vectors.projection import Projection, photo_vector, rooted
from shared.vectors.unit import Vectors, normalise

PRODUCTS, WIDTH = 40, 64


def world(images: int, nuisance: float, shift: float = 0.0, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Raw vectors of products that differ in some directions, while their images differ, loudly, in others."""
    rng = np.random.default_rng(seed)
    products = np.random.default_rng(99).uniform(0, 1, (PRODUCTS, WIDTH))
    owners = np.repeat(np.arange(PRODUCTS), images)
    axes = np.random.default_rng(98).normal(size=(4, WIDTH))
    noise = rng.normal(size=(len(owners), 4)) @ axes * nuisance + shift * axes[0]
    return np.abs(products[owners] + noise + rng.normal(0, 0.02, (len(owners), WIDTH))).astype(np.float32), owners


def recall(learned: Metric, owners: np.ndarray, queries: Vectors, wanted: np.ndarray) -> float:
    asked = np.concatenate([photo_vector(learned.projection, query[None], WIDTH) for query in queries])
    return float((owners[(asked @ learned.vectors.T).argmax(axis=1)] == wanted).mean())


def parts(metric: Metric) -> Recipe:
    assert metric.learned
    return metric.learned.parts


def plain(raw: Vectors, owners: np.ndarray, queries: Vectors, wanted: np.ndarray) -> float:
    return float((owners[(rooted(queries) @ rooted(raw).T).argmax(axis=1)] == wanted).mean())


def test_products_with_several_images_teach_what_does_not_matter() -> None:
    raw, owners = world(6, nuisance=0.4)
    queries, wanted = world(10, nuisance=0.4, seed=1)
    learned = learn(raw, owners, WIDTH)
    assert parts(learned).within
    assert recall(learned, owners, queries, wanted) > plain(raw, owners, queries, wanted) + 0.1


def test_where_nothing_is_to_be_won_nothing_changes() -> None:
    raw, owners = world(4, nuisance=0.0)
    assert not parts(learn(raw, owners, WIDTH)).within
    single, alone = world(1, nuisance=0.4)
    learned = learn(single, alone, WIDTH)
    assert parts(learned) == Recipe()
    assert learned.projection is None
    assert np.allclose(learned.vectors, normalise(single), atol=1e-6)


def test_unlabelled_photos_teach_how_photos_differ() -> None:
    raw, owners = world(1, nuisance=0.0)
    photos, _ = world(20, nuisance=0.25, shift=0.5, seed=2)
    queries, wanted = world(5, nuisance=0.25, shift=0.5, seed=3)
    learned = learn(raw, owners, WIDTH, photos)
    assert parts(learned).photos
    assert recall(learned, owners, queries, wanted) > plain(raw, owners, queries, wanted) + 0.1


def test_too_few_photos_teach_nothing() -> None:
    raw, owners = world(1, nuisance=0.1)
    assert parts(learn(raw, owners, WIDTH, raw[:30])).photos == ""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_catalogs(count: int) -> None:
    raw, owners = world(2, nuisance=0.1)
    learned = learn(raw[: 2 * count], owners[: 2 * count], WIDTH)
    assert np.isfinite(learned.vectors).all()


def test_learning_is_repeatable() -> None:
    raw, owners = world(6, nuisance=0.3)
    assert (learn(raw, owners, WIDTH).vectors == learn(raw, owners, WIDTH).vectors).all()


def two_parts(images: int, nuisance: float, seed: int) -> tuple[Vectors, np.ndarray]:
    """A loud head, and a middle in which the same products differ with less noise."""
    head, owners = world(images, nuisance, seed=seed)
    middle, _ = world(images, nuisance / 4, seed=seed + 50)
    return np.concatenate([head, middle], axis=1), owners


def test_the_middle_is_used_where_it_wins() -> None:
    raw, owners = two_parts(6, nuisance=2.0, seed=0)
    queries, wanted = two_parts(10, nuisance=2.0, seed=1)
    learned = learn(raw, owners, WIDTH)
    assert parts(learned).middle == "instead"
    head = learn(raw[:, :WIDTH], owners, WIDTH)
    assert recall(learned, owners, queries, wanted) > recall(head, owners, queries[:, :WIDTH], wanted) + 0.05


def test_the_middle_stands_beside_a_head_that_holds_its_own() -> None:
    """Head and middle each tell half of the products apart from the others, as a pair's may."""

    def halves(images: int, seed: int) -> tuple[Vectors, np.ndarray]:
        head, owners = world(images, nuisance=0.6, seed=seed)
        middle, _ = world(images, nuisance=0.6, seed=seed + 50)
        rng = np.random.default_rng(seed + 90)
        head[owners < PRODUCTS // 2] = rng.uniform(0, 1, (WIDTH,))
        middle[owners >= PRODUCTS // 2] = rng.uniform(0, 1, (WIDTH,))
        noise = rng.uniform(0, 0.02, (len(owners), 2 * WIDTH)).astype(np.float32)
        return np.concatenate([head, middle], axis=1) + noise, owners

    raw, owners = halves(6, seed=0)
    learned = learn(raw, owners, WIDTH)
    assert parts(learned).middle == "beside"
    assert learned.projection
    assert [block.start for block in learned.projection.blocks] == [0, WIDTH]
    assert learned.vectors.shape[1] == learned.projection.dimension


def test_values_of_both_signs_are_rooted_without_a_teacher() -> None:
    rng = np.random.default_rng(0)
    products = rng.normal(size=(PRODUCTS, WIDTH)).astype(np.float32)
    photos = products + rng.normal(0, 0.6, products.shape).astype(np.float32)
    owners = np.arange(PRODUCTS)
    for values in (products, photos):  # a few are far larger than all others, and say little
        values[:, :3] += rng.normal(0, 12, (PRODUCTS, 3)) - 30
    learned = learn(products, owners, WIDTH)
    assert parts(learned).root
    unrooted = (normalise(photos) @ normalise(products).T).argmax(axis=1) == owners
    assert recall(learned, owners, photos, owners) > unrooted.mean() + 0.2


def test_photos_of_a_few_products_draw_nothing_to_them() -> None:
    raw, owners = two_parts(1, nuisance=0.0, seed=0)
    photos, shown = two_parts(60, nuisance=0.3, seed=2)
    few = photos[shown < PRODUCTS // 8]
    assert len(few) > 5 * PRODUCTS
    assert parts(learn(raw, owners, WIDTH, few)).photos in ("", "centre", "whiten")


def test_a_projection_of_two_blocks_survives_the_disk(tmp_path: Path) -> None:
    raw, owners = two_parts(1, nuisance=0.0, seed=0)
    photos, _ = two_parts(20, nuisance=0.4, seed=2)
    projection, rows = fit(Features(raw, WIDTH), owners, Features(photos, WIDTH), Recipe(photos=PhotoUse.TEACH))
    assert projection
    projection.write(tmp_path)
    found = Projection.open(tmp_path, os.listdir(tmp_path))
    assert found
    assert [block.start for block in found.blocks] == [0, WIDTH]
    assert found.photo(photos[:4]).shape == (1, found.dimension) == (1, rows.shape[1])
    assert (found.photo(photos[:4]) == projection.photo(photos[:4])).all()
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_projection_survives_the_disk_and_several_views_are_one_question(tmp_path: Path) -> None:
    raw, owners = world(6, nuisance=0.4)
    projection = learn(raw, owners, WIDTH).projection
    assert projection
    projection.write(tmp_path)
    found = Projection.open(tmp_path, os.listdir(tmp_path))
    assert found
    assert (found.photo(raw[:4]) == projection.photo(raw[:4])).all()
    assert found.photo(raw[:4]).shape == (1, found.dimension)
    assert Projection.open(tmp_path, ["index.faiss"]) is None
    (tmp_path / "bad").mkdir()
    write_array(tmp_path / "bad" / "projection.0.means.npy", raw[:1])
    with pytest.raises(SnapshotError, match="do not belong together"):
        Projection.open(tmp_path / "bad", ["projection.0.means.npy"])
