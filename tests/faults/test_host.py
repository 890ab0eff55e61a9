"""A host whose clock jumps, whose disk can only be read, or that lacks a network's weights: errors that name it."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.snapshot import writer
from shared.snapshot.reader import Snapshot
from tests.support.indexing import indexer
from tests.support.pictures import drawn, vectors
from tests.support.snapshots import HOCKEY, hockey, snapshot_of

pytestmark = pytest.mark.fault("O2")


def index(data: Path, pictures: Path, *options: str) -> subprocess.CompletedProcess[str]:
    pictures.mkdir(exist_ok=True)
    for n in range(3):
        (pictures / f"p{n}.jpg").write_bytes(drawn(n))
    where = ("--department", "371", "--domain", "0341", "--data", str(data), "--catalog", str(pictures))
    return indexer(*where, *options)


def test_a_snapshot_made_after_the_clock_was_set_back_serves_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) - timedelta(days=1)

    before = snapshot_of(tmp_path, ["p", "q"], vectors(1, 2)).id
    monkeypatch.setattr(writer, "datetime", Yesterday)
    after = snapshot_of(tmp_path, ["p", "q"], vectors(3, 4)).id
    assert after < before
    assert hockey(tmp_path).keep_newest(1) == []
    assert (hockey(tmp_path).current(), hockey(tmp_path).previous()) == (after, before)
    assert Snapshot.current(tmp_path, HOCKEY).id == after


@pytest.mark.slow
def test_an_index_run_on_a_disk_that_can_only_be_read_is_one_sentence(small_disk: Path, tmp_path: Path) -> None:
    before = snapshot_of(small_disk, ["p", "q"], vectors(1, 2)).id
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = index(small_disk, tmp_path / "pictures", "--model", "colour_grid")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert str(small_disk) in done.stderr
    assert "Traceback" not in done.stderr
    assert Snapshot.current(small_disk, HOCKEY).id == before


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"junk"], ids=["missing", "empty", "corrupt"])
def test_weights_that_cannot_be_read_are_named_and_the_old_snapshot_stays(
    content: bytes | None, tmp_path: Path
) -> None:
    before = snapshot_of(tmp_path, ["p", "q"], vectors(1, 2)).id
    weights = tmp_path / "own.pth"
    if content is not None:
        weights.write_bytes(content)
    done = index(tmp_path, tmp_path / "pictures", "--model", "efficientnet_lite0", "--weights", str(weights))
    assert done.returncode == 1
    assert "own.pth" in done.stderr
    assert "Traceback" not in done.stderr
    assert Snapshot.current(tmp_path, HOCKEY).id == before
