"""Snapshots that earlier versions of the program wrote, one of each set of files: this version opens and asks them.

A golden snapshot is never rewritten for a change of code: what production hosts hold must open. Only a new `FORMAT`, or
files of other names, add another beside the old ones:
`python -m tests.shared.snapshot.test_golden` writes what the code writes now.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from indexer.metric.fit import Features, fit
from shared.embedding.registry import load
from shared.images.decode import decode
from shared.images.views import square
from shared.index.product_table import ProductImage
from shared.search.search import similar_to_photo, similar_to_product
from shared.snapshot.manifest import CatalogPart, LearnedPart, PhotoUse, Quality, Recipe
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from tests.conftest import HOCKEY, drawn, hockey

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/manifest.json"))
KEY = "golden"
PRODUCTS = 12


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_snapshot_of_an_earlier_version_opens_and_answers(folder: Path) -> None:
    wanted = json.loads((GOLDEN / "answers.json").read_text())[folder.name]
    snapshot = Snapshot(folder, KEY)
    assert snapshot.manifest.partition == HOCKEY
    for product, answers in wanted["products"].items():
        assert nearest(snapshot, product) == answers
    scores, rows = snapshot.store.search(snapshot.store.vectors(0, 4), 1)
    assert rows[:, 0].tolist() == [0, 1, 2, 3]
    assert np.allclose(scores, 1, atol=1e-5)
    assert snapshot.projection
    if load("colour_grid").spec == snapshot.spec:  # its network is still here
        assert photographed(snapshot) == pytest.approx(wanted["photos"], abs=1e-3)


def nearest(snapshot: Snapshot, product: str) -> list[str]:
    return [json.loads(found.line)["product_id"] for found in similar_to_product(snapshot, product)[:3]]


def photographed(snapshot: Snapshot) -> dict[str, float]:
    """The first answer to a picture of each product, with its score, which tells one space from another."""
    firsts = [similar_to_photo(snapshot, snapshot.load_embedder(), drawn(n))[0] for n in range(PRODUCTS)]
    return {first.image.product_id: first.score for first in firsts}


def test_there_is_one_of_what_is_written_now(tmp_path: Path) -> None:
    now = state(written(tmp_path))
    assert now in [state(folder) for folder in FOLDERS]


def state(folder: Path) -> tuple[int, set[str]]:
    """A snapshot's format, and the names of its files."""
    return json.loads((folder / "manifest.json").read_text())["format"], {path.name for path in folder.iterdir()}


def written(data: Path) -> Path:
    """A snapshot of drawn pictures, as the code writes them now."""
    embedder = load("colour_grid")
    rng = np.random.default_rng(0)
    pictures = [np.asarray(decode(drawn(product))) for product in range(PRODUCTS) for _ in range(2)]
    noisy = [np.clip(p + rng.normal(0, 12, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    raw = embedder.embed(np.stack([square(picture, 64) for picture in noisy]))
    images = [
        ProductImage(f"p{n // 2}", f"i{n}", f"https://images.example/i{n}.jpg", {"name": f"Block {n // 2}"})
        for n in range(2 * PRODUCTS)
    ]
    # Half of the values stand for a network's middle, so that the projection has all files that it can have.
    features, recipe = Features(raw, raw.shape[1] // 2), Recipe(centre=True, within=True, photos=PhotoUse.TEACH)
    projection, vectors = fit(features, np.arange(len(raw)) // 2, features, recipe)
    quality, catalog = Quality(learned=LearnedPart(recipe)), CatalogPart("golden.csv", rows=len(raw))
    draft = Draft(HOCKEY, images, vectors, embedder, projection, "faiss", catalog, {}, b"{}", b"row\n", quality)
    return hockey(data).path / write_snapshot(data, draft, KEY)


def write_golden() -> None:
    """Add what the code writes now, and what it answers."""
    with tempfile.TemporaryDirectory() as data:
        made = written(Path(data))
        folder = Path(shutil.copytree(made, GOLDEN / made.name))
    snapshot = Snapshot(folder, KEY)
    products = {f"p{n}": nearest(snapshot, f"p{n}") for n in range(PRODUCTS)}
    known = json.loads((GOLDEN / "answers.json").read_text()) if (GOLDEN / "answers.json").exists() else {}
    answers = known | {folder.name: {"products": products, "photos": photographed(snapshot)}}
    (GOLDEN / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    sys.exit(write_golden())
