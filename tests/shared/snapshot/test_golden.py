"""Snapshots that earlier versions of the program wrote, one of each set of files: this version opens and asks them.

A golden snapshot is never rewritten for a change of code: what production hosts hold must open. Only a new `FORMAT`, or
files of other names, add another beside the old ones:
`python -m tests.support.golden` writes what the code writes now.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from shared.embedding.registry import load
from shared.snapshot.reader import Snapshot
from tests.support.golden import FOLDERS, GOLDEN, KEY, nearest, photographed, written
from tests.support.snapshots import HOCKEY


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


def test_there_is_one_of_what_is_written_now(tmp_path: Path) -> None:
    now = state(written(tmp_path))
    assert now in [state(folder) for folder in FOLDERS]


def state(folder: Path) -> tuple[int, set[str]]:
    """A snapshot's format, and the names of its files."""
    return json.loads((folder / "manifest.json").read_text())["format"], {path.name for path in folder.iterdir()}
