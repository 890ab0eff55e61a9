"""Snapshots that earlier versions of the program wrote, one of each format: this version opens and asks them.

A golden snapshot is never rewritten for a change of code: what production hosts hold must open. Only a new `FORMAT`
adds another beside the old ones: `python -m tests.test_golden` writes what the code writes now.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from indexer.learning import learn
from shared.embedders import load
from shared.images import decode, square
from shared.products import ProductImage
from shared.similar import similar_to_photo, similar_to_product
from shared.snapshot import FORMAT, Draft, Snapshot, signature, write_snapshot
from tests.conftest import HOCKEY, drawn

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/manifest.json"))
KEY = "golden"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_snapshot_of_an_earlier_version_opens_and_answers(folder: Path) -> None:
    wanted = json.loads((GOLDEN / "answers.json").read_text())[folder.name]
    snapshot = Snapshot(folder, KEY)
    assert snapshot.manifest.partition == HOCKEY
    for product, answers in wanted.items():
        assert nearest(snapshot, product) == answers
    scores, rows = snapshot.store.search(snapshot.store.vectors(0, 4), 1)
    assert rows[:, 0].tolist() == [0, 1, 2, 3]
    assert np.allclose(scores, 1, atol=1e-5)
    if load("colour_grid").spec == snapshot.spec:  # its network is still here
        found = similar_to_photo(snapshot, snapshot.load_embedder(), drawn(3))
        assert json.loads(found[0].line)["product_id"] == "p3"


def nearest(snapshot: Snapshot, product: str) -> list[str]:
    return [json.loads(found.line)["product_id"] for found in similar_to_product(snapshot, product)[:3]]


def test_there_is_one_of_this_format() -> None:
    assert FORMAT in {json.loads((folder / "manifest.json").read_text())["format"] for folder in FOLDERS}


def write_golden() -> None:
    """Add a snapshot of drawn pictures, as the code writes them now, and what it answers."""
    embedder = load("colour_grid")
    rng = np.random.default_rng(0)
    pictures = [np.asarray(decode(drawn(product))) for product in range(12) for _ in range(2)]
    noisy = [np.clip(p + rng.normal(0, 12, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    raw = embedder.embed(np.stack([square(picture, 64) for picture in noisy]))
    images = [
        ProductImage(f"p{n // 2}", f"i{n}", f"https://images.example/i{n}.jpg", {"name": f"Block {n // 2}"})
        for n in range(24)
    ]
    learned = learn(raw, np.arange(24) // 2)
    quality = {"learned": learned.report}
    catalog = {"uri": "golden.csv", "etag": "", "rows": 24}
    draft = Draft(
        HOCKEY, images, learned.vectors, embedder, learned.projection, "faiss", catalog, {}, {}, b"row\n", quality
    )
    with tempfile.TemporaryDirectory() as data:
        snapshot_id = write_snapshot(Path(data), draft)
        written = HOCKEY.folder(Path(data)) / snapshot_id
        (written / "manifest.sig").write_bytes(signature((written / "manifest.json").read_bytes(), KEY))
        written.rename(GOLDEN / snapshot_id)
    snapshot = Snapshot(GOLDEN / snapshot_id, KEY)
    answers = {f"p{n}": nearest(snapshot, f"p{n}") for n in range(12)}
    known = json.loads((GOLDEN / "answers.json").read_text()) if (GOLDEN / "answers.json").exists() else {}
    (GOLDEN / "answers.json").write_text(json.dumps(known | {snapshot_id: answers}, indent=1) + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    sys.exit(write_golden())
