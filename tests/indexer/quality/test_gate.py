"""A worse snapshot does not replace the one that serves, and the reason names what got worse."""

from pathlib import Path
from typing import Any

import pytest

from indexer.quality.gate import objections
from shared.snapshot.reader import Snapshot
from tests.support.indexing import indexer
from tests.support.pictures import drawn
from tests.support.snapshots import hockey, snapshot_of, unit


def made(
    data: Path, estimate: float, coverage: float = 1.0, products: int = 4, ndcg: float = 0.8, **found: float
) -> Snapshot:
    alike = {"space": "plain", "columns": ["kind"], "judged": {"plain": ndcg}}
    quality: dict[str, Any] = {
        "estimate": estimate,
        "estimated_by": "held-out images",
        "coverage": coverage,
        "alike": alike,
    }
    names = [f"p{n}" for n in range(products)]
    return snapshot_of(data, names, unit(*[[1, n] for n in range(products)]), quality=quality, found=found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"estimate": 0.86}, None),
        ({"estimate": 0.84, "p1": 0.2}, "p1 (1.00 to 0.20)"),
        ({"coverage": 0.96}, None),
        ({"coverage": 0.94}, "fell from 1.000 to 0.940"),
        ({"ndcg": 0.76}, None),
        ({"ndcg": 0.74}, "(nDCG by kind) fell from 0.800 to 0.740"),
        ({"products": 2}, None),
        ({"products": 1}, "Only 1 products are left of 4"),
    ],
)
def test_a_fall_by_more_than_the_set_amount_is_an_objection(
    tmp_path: Path, changes: dict[str, Any], says: str | None
) -> None:
    current = made(tmp_path / "a", estimate=0.9, p0=1.0, p1=1.0)
    new = made(tmp_path / "b", **{"estimate": 0.9, "p0": 1.0, "p1": 1.0, **changes})
    found = objections(new, current, 0.05)
    assert bool(found) == (says is not None)
    assert says is None or says in found[0]


@pytest.mark.slow
def test_the_command_keeps_the_old_snapshot_unless_forced(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(6):
        (pictures / f"p{n}.jpg").write_bytes(drawn(n, (200, 200)))
    data = tmp_path / "data"
    base = ("--department", "371", "--domain", "0341", "--data", str(data), "--model", "colour_grid")
    run = (*base, "--catalog", str(pictures), "--keep", "1")
    assert indexer(*run).returncode == 0
    first = hockey(data).current()
    for n in range(4):
        (pictures / f"p{n}.jpg").unlink()
    refused = indexer(*run)
    assert refused.returncode == 1
    assert "Only 2 products are left of 6" in refused.stderr
    assert "FORCE=1" in refused.stderr
    assert hockey(data).current() == first
    assert len(hockey(data).ids()) == 2
    assert indexer(*run, "--force").returncode == 0
    assert {hockey(data).current(), first} == set(hockey(data).ids())
