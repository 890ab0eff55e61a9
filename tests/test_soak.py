"""The soak: it keeps its promises on a small catalog, and says so where one is broken."""

from pathlib import Path

import pytest

from bench import traffic
from bench.soak import PARTITIONS, Rhythm, Soak
from bench.traffic import Outcome
from tests.support.pictures import drawn, vectors
from tests.support.project import THOROUGH
from tests.support.snapshots import snapshot_of

QUICK = Rhythm(swap=0.5, kill=3, mood=1, line=2)


@pytest.fixture
def soak(tmp_path: Path) -> Soak:
    attributes = [{"name": f"Block {n}", "brand": "x", "price": str(20 * n)} for n in range(12)]
    for partition in PARTITIONS:
        names = [f"p{n}" for n in range(12)]
        snapshot_of(tmp_path / "publisher", names, vectors(*range(12)), partition, attributes=attributes)
    return Soak(tmp_path / "publisher", tmp_path / "work", [drawn(n) for n in range(12)], QUICK)


@pytest.mark.slow
@pytest.mark.skipif(not THOROUGH, reason="half a minute of both cores; make test THOROUGH=1 runs it")
def test_nothing_fails_while_snapshots_are_swapped_and_workers_killed(soak: Soak) -> None:
    lines = list[str]()
    soak.run(12, lines.append)
    assert not soak.broken
    assert soak.swaps
    assert soak.kills
    kinds = {kind for kind, counts in soak.tally.counts.items() if counts[Outcome.RIGHT]}
    assert {"product", "filter", "list", "photo", "batch", "live change", "page", "bad", "malformed"} <= kinds
    assert ", 0 failed;" in lines[-1]
    assert all(f"| {kind} | " in soak.table() for kind in kinds)


@pytest.mark.slow
def test_requests_that_fail_are_counted_and_told(soak: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_TRIES", 1)
    (soak.work / "host").mkdir(parents=True)
    (soak.work / "host" / "live").write_text("No journal can be here.")
    soak.run(6)
    failed = soak.tally.counts["live change"][Outcome.FAILED]
    assert failed
    assert soak.tally.total(Outcome.FAILED) >= failed
    assert "requests failed" in soak.broken[0]
    assert "503" in soak.broken[0]


@pytest.mark.parametrize(("at_the_end", "broken"), [(104.0, False), (106.0, True)])
def test_a_process_may_grow_by_a_twentieth_from_minute_3_on(at_the_end: float, broken: bool, soak: Soak) -> None:
    """Memory that it takes at the beginning, or for a moment, does not count."""
    looks = [(float(at), 100 + (at_the_end - 100) * (at > 400)) for at in range(0, 600, 2)]
    soak.memory = {"master": [(at, 50.0 if at < 120 else 500.0 if at % 100 == 0 else memory) for at, memory in looks]}
    soak.memory["worker 7"] = [(300.0, 10.0), (600.0, 99.0)]  # it did not live so long
    soak.swaps = soak.kills = 1
    soak.judge(600)
    assert soak.broken == (["The master grew from 100.0 MB to 106.0."] if broken else [])
