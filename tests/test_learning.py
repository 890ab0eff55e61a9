"""What a catalog teaches: parts are kept where they win on held-out material, and only there."""

from pathlib import Path

import numpy as np
import pytest

from indexer.learning import Learned, learn
from shared.projection import Projection, rooted
from shared.vectors import Vectors, normalise

PRODUCTS, WIDTH = 40, 64


def world(images: int, nuisance: float, shift: float = 0.0, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Raw vectors of products that differ in some directions, while their images differ, loudly, in others."""
    rng = np.random.default_rng(seed)
    products = np.random.default_rng(99).uniform(0, 1, (PRODUCTS, WIDTH))
    owners = np.repeat(np.arange(PRODUCTS), images)
    axes = np.random.default_rng(98).normal(size=(4, WIDTH))
    noise = rng.normal(size=(len(owners), 4)) @ axes * nuisance + shift * axes[0]
    return np.abs(products[owners] + noise + rng.normal(0, 0.02, (len(owners), WIDTH))).astype(np.float32), owners


def recall(learned: Learned, owners: np.ndarray, queries: Vectors, wanted: np.ndarray) -> float:
    asked = np.concatenate([learned.projection.photo(query[None]) for query in queries])
    return float((owners[(asked @ learned.vectors.T).argmax(axis=1)] == wanted).mean())


def plain(raw: Vectors, owners: np.ndarray, queries: Vectors, wanted: np.ndarray) -> float:
    return float((owners[(rooted(queries) @ rooted(raw).T).argmax(axis=1)] == wanted).mean())


def test_products_with_several_images_teach_what_does_not_matter() -> None:
    raw, owners = world(6, nuisance=0.4)
    queries, wanted = world(10, nuisance=0.4, seed=1)
    learned = learn(raw, owners)
    assert learned.report["parts"]["within"]
    assert recall(learned, owners, queries, wanted) > plain(raw, owners, queries, wanted) + 0.1


def test_where_nothing_is_to_be_won_nothing_changes() -> None:
    raw, owners = world(4, nuisance=0.0)
    assert not learn(raw, owners).report["parts"]["within"]
    single, alone = world(1, nuisance=0.4)
    learned = learn(single, alone)
    assert not any(learned.report["parts"].values())
    assert np.allclose(learned.vectors, rooted(single), atol=1e-6)


def test_unlabelled_photos_teach_how_photos_differ() -> None:
    raw, owners = world(1, nuisance=0.0)
    photos, _ = world(20, nuisance=0.25, shift=0.5, seed=2)
    queries, wanted = world(5, nuisance=0.25, shift=0.5, seed=3)
    learned = learn(raw, owners, photos)
    assert learned.report["parts"]["photos"]
    assert recall(learned, owners, queries, wanted) > plain(raw, owners, queries, wanted) + 0.1


def test_too_few_photos_teach_nothing() -> None:
    raw, owners = world(1, nuisance=0.1)
    assert learn(raw, owners, raw[:30]).report["parts"]["photos"] == ""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_catalogs(count: int) -> None:
    raw, owners = world(2, nuisance=0.1)
    learned = learn(raw[: 2 * count], owners[: 2 * count])
    assert np.isfinite(learned.vectors).all()


def test_learning_is_repeatable() -> None:
    raw, owners = world(6, nuisance=0.3)
    assert (learn(raw, owners).vectors == learn(raw, owners).vectors).all()


def test_a_projection_survives_the_disk_and_several_views_are_one_question(tmp_path: Path) -> None:
    raw, owners = world(6, nuisance=0.4)
    projection = learn(raw, owners).projection
    projection.write(tmp_path)
    found = Projection.open(tmp_path)
    assert found
    assert (found.photo(raw[:4]) == projection.photo(raw[:4])).all()
    assert found.photo(raw[:4]).shape == (1, projection.matrix.shape[1])
    assert np.allclose(found.catalog(raw[:1]), normalise((rooted(raw[:1]) - found.means[0]) @ found.matrix))
    assert Projection.open(tmp_path / "none") is None
