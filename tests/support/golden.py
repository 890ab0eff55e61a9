"""Golden snapshots: what the code wrote once, and what it writes now.

`python -m tests.support.golden` writes what the code writes now.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from indexer.metric.fit import Features, fit
from shared.embedding.registry import load
from shared.images.decode import decode
from shared.images.views import square
from shared.index.product_table import ProductImage
from shared.search.search import similar_to_photo, similar_to_product
from shared.snapshot.manifest import CatalogPart, LearnedPart, PhotoUse, Quality, Recipe
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from tests.support.pictures import drawn
from tests.support.project import ROOT
from tests.support.snapshots import HOCKEY, hockey

GOLDEN = ROOT / "tests" / "shared" / "snapshot" / "golden"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/manifest.json"))


KEY = "golden"
PRODUCTS = 12


def nearest(snapshot: Snapshot, product: str) -> list[str]:
    """The three products most like a product."""
    return [json.loads(found.line)["product_id"] for found in similar_to_product(snapshot, product)[:3]]


def photographed(snapshot: Snapshot) -> dict[str, float]:
    """The first answer to a picture of each product, with its score, which tells one space from another."""
    firsts = [similar_to_photo(snapshot, snapshot.load_embedder(), drawn(n))[0] for n in range(PRODUCTS)]
    return {first.image.product_id: first.score for first in firsts}


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
    write_golden()
