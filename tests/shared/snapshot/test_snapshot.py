import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from shared.errors import ConfigError, SnapshotError
from shared.partition import Partition
from shared.snapshot import directory
from shared.snapshot.directory import PartitionFolder, Task, partitions
from shared.snapshot.lease import Lease, remove_unless_leased, wait_until_free
from shared.snapshot.manifest import Manifest, content_name, signature
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage import files
from shared.storage.files import replace_atomically
from tests.support.pictures import drawn
from tests.support.processes import no_larger_than
from tests.support.project import ROOT, often
from tests.support.snapshots import HOCKEY, hockey, snapshot_of, unit

VECTORS = unit([1, 0, 0], [0, 1, 0], [0, 1, 1])
WRITER = """
import sys; from pathlib import Path; import numpy as np
from tests.support.snapshots import snapshot_of
from shared.vectors.unit import normalise
vectors = normalise(np.random.default_rng(int(sys.argv[2])).normal(size=(700, 64)).astype(np.float32))
snapshot_of(Path(sys.argv[1]), [f"p{n}" for n in range(700)], vectors)
"""


@pytest.fixture
def good(tmp_path: Path) -> Snapshot:
    return snapshot_of(tmp_path, ["p", "q", "q"], VECTORS)


def test_a_snapshot_describes_itself(good: Snapshot, tmp_path: Path) -> None:
    manifest = json.loads((good.folder / "manifest.json").read_text())
    assert (manifest["count"], manifest["products"], manifest["dimension"]) == (3, 2, 3)
    assert manifest["embedder"]["name"] == "colour_grid"
    assert set(manifest["files"]) | {"manifest.json"} == {path.name for path in good.folder.iterdir()}
    assert hockey(tmp_path).current() == good.id == good.folder.name
    assert partitions(tmp_path) == [HOCKEY]
    assert good.load_embedder().spec == good.spec


def test_vectors_come_back_as_they_went_in(good: Snapshot) -> None:
    assert (good.store.vectors(0, 3) == VECTORS).all()


@pytest.mark.fault("S6")
@pytest.mark.fault("S7")
@pytest.mark.slow
def test_whatever_is_damaged_is_refused_before_faiss_is_asked(
    good: Snapshot, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("FAISS was asked"))
    files = {path: path.read_bytes() for path in sorted(good.folder.iterdir())}
    rng, refused, flips = random.Random(1), 0, 1000 // len(files) + 1
    for path, whole in files.items():
        others = [data for data in files.values() if data != whole]
        damaged = [None, b"", whole + b"\0", *others, *(whole[: rng.randrange(len(whole))] for _ in range(20))]
        for _ in range(flips):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            damaged.append(bytes(data))
        for content in damaged:
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(SnapshotError, match=path.name if path.name != "manifest.json" else "manifest"):
                Snapshot(good.folder)
            path.write_bytes(whole)
            refused += 1
    record_property("flipped bits", flips * len(files))
    record_property("refused", refused)
    assert refused > 1000
    assert verify(good.folder)


def renamed(folder: Path, **changes: object) -> Path:
    """A snapshot whose manifest was changed by someone who also renames the folder to fit."""
    fields = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(fields))
    name = content_name((folder / "manifest.json").read_bytes())
    return folder.rename(folder.with_name(f"x-{name}"))


def test_a_manifest_that_is_deeply_nested_is_refused() -> None:
    with pytest.raises(SnapshotError, match="not readable"):
        Manifest.from_json(b"[" * 100_000, "x")


@pytest.mark.fault("S8")
def test_another_format_is_refused_with_both_versions_named(good: Snapshot) -> None:
    with pytest.raises(SnapshotError, match="format 99; this program reads format 1"):
        Snapshot(renamed(good.folder, format=99))


@pytest.mark.parametrize(
    "changes",
    [
        {"embedder": {"name": "x", "dimension": 1, "image_size": 1, "fingerprint": "x", "unknown": 4}},
        {"quality": []},
        {"quality": {"r_at_1": 0.5}},
        {"quality": {"estimate": "0.5"}},
        {"quality": {"learned": {"parts": {"photos": "unheard of"}}}},
        {"quality": {"verdicts": {"mood": {}}}},
        {"quality": {"verdicts": {"photo": {"similar": 0.1}}}},
        {"catalog": {"uri": "x", "live": {"journal": "j"}}},
        {"index": {}},
        {"unheard": "of"},
        {"department": "../x"},
        {"created": ""},
        {"count": "3"},
        {"files": {"index.faiss": {"bytes": "1", "sha256": "x"}}},
        {"files": None},
    ],
)
def test_a_manifest_of_another_shape_is_refused(good: Snapshot, changes: dict[str, object]) -> None:
    with pytest.raises(SnapshotError, match=r"manifest of x-.* is not readable"):
        Snapshot(renamed(good.folder, **changes))


def test_what_the_manifest_does_not_list_is_not_read(good: Snapshot) -> None:
    np.save(good.folder / "projection.0.means.npy", np.zeros((2, 3), np.float32))
    assert Snapshot(good.folder).projection is None


@pytest.mark.fault("S8")
def test_sizes_that_the_manifest_does_not_state_are_refused(good: Snapshot) -> None:
    with pytest.raises(SnapshotError, match="size"):
        Snapshot(renamed(good.folder, dimension=4))


def test_a_manifest_cannot_name_files_elsewhere(good: Snapshot) -> None:
    mark = {"../../CURRENT": {"bytes": 1, "sha256": "0"}}
    with pytest.raises(SnapshotError, match="no file in the snapshot"):
        Snapshot(renamed(good.folder, files=mark))


def test_where_a_key_is_set_a_snapshot_must_be_signed_with_it(good: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="is not signed"):
        Snapshot(good.folder, "key")
    (good.folder / "manifest.sig").write_bytes(signature((good.folder / "manifest.json").read_bytes(), "key"))
    assert Snapshot(good.folder, "key")
    assert Snapshot(good.folder)
    for wrong in (b"", b"\n", b"0" * 64, b"\xff"):
        (good.folder / "manifest.sig").write_bytes(wrong)
        with pytest.raises(SnapshotError, match="another key"):
            Snapshot(good.folder, "key")


@pytest.mark.fault("S10")
def test_what_served_before_is_remembered(tmp_path: Path) -> None:
    one, two = (snapshot_of(tmp_path, ["p", "q", "q"], unit([1, 0, n], [0, 1, 0], [0, 1, 1])).id for n in (1, 2))
    assert (hockey(tmp_path).current(), hockey(tmp_path).previous()) == (two, one)
    hockey(tmp_path).activate(two)
    assert hockey(tmp_path).previous() == one
    assert hockey(tmp_path).go_back() == one
    assert (hockey(tmp_path).current(), hockey(tmp_path).previous()) == (one, two)
    assert hockey(tmp_path).go_back() == two
    replace_atomically(hockey(tmp_path).path / "PREVIOUS", two.encode())  # killed between the two
    with pytest.raises(SnapshotError, match="no longer"):
        hockey(tmp_path).go_back()


def test_what_is_served_is_not_removed_until_it_is_left(tmp_path: Path) -> None:
    def made(n: int) -> Snapshot:
        return snapshot_of(tmp_path, ["p", "q", "q"], unit([1, 0, n], [0, 1, 0], [0, 1, 1]))

    old = made(1)
    one, other = Lease(old.folder), Lease(old.folder)
    for n in count(2):  # ids of one second have no order
        made(n)
        if n > 3 and old.id != hockey(tmp_path).ids()[0]:
            break
    hockey(tmp_path).keep_newest(1)
    assert hockey(tmp_path).keep_newest(1) == []
    one.close()
    assert hockey(tmp_path).keep_newest(1) == []
    assert not wait_until_free(old.folder, 0.05)
    del other
    assert wait_until_free(old.folder, 0)
    assert hockey(tmp_path).keep_newest(1) == [old.id]
    with pytest.raises(SnapshotError, match="no readable manifest"):
        Lease(old.folder)


def test_what_one_goes_back_to_is_not_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, *_ = (snapshot_of(tmp_path, ["p", "q", "q"], unit([1, 0, n], [0, 1, 0], [0, 1, 1])).id for n in range(4))
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as watched:

        def slow(*arguments: Any) -> Any:
            cleaning.append(pool.submit(hockey(tmp_path).keep_newest, 1))
            time.sleep(0.2)
            return verify(*arguments)

        cleaning: list[Any] = []
        watched.setattr(directory, "verify", slow)
        assert hockey(tmp_path).go_back(old) == old
        assert old not in cleaning[0].result()
    assert Snapshot.current(tmp_path, HOCKEY).id == old


def test_what_is_being_removed_does_not_become_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = hockey(tmp_path)
    ids = sorted(snapshot_of(tmp_path, ["p", "q", "q"], unit([1, 0, n], [0, 1, 0], [0, 1, 1])).id for n in range(4))
    here.activate(ids[2])
    here.activate(ids[3])
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as watched:

        def slow(folder: Path) -> bool:
            if not choosing:
                choosing.append(pool.submit(here.activate, ids[0]))
                time.sleep(0.2)
            return remove_unless_leased(folder)

        choosing: list[Any] = []
        watched.setattr(directory, "remove_unless_leased", slow)
        assert set(here.keep_newest(1)) == set(ids[:2])
        with pytest.raises(SnapshotError, match=f"The snapshot {ids[0]} is not in"):
            choosing[0].result()
    assert Snapshot.current(tmp_path, HOCKEY).id == ids[3]


@pytest.mark.fault("S8")
def test_vectors_of_another_network_are_refused(good: Snapshot) -> None:
    other = {**asdict(good.manifest.embedder), "fingerprint": "another"}
    with pytest.raises(SnapshotError, match="was made with"):
        Snapshot(renamed(good.folder, embedder=other)).load_embedder()


def test_current_cannot_point_elsewhere(good: Snapshot, tmp_path: Path) -> None:
    for name in ("../0341/" + good.id, "/etc", ".."):
        with pytest.raises(SnapshotError, match="does not name a snapshot"):
            hockey(tmp_path).activate(name)
        (hockey(tmp_path).path / "CURRENT").write_text(name)
        with pytest.raises(SnapshotError):
            Snapshot.current(tmp_path, HOCKEY)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    other = Partition("371", "0002")
    here = hockey(tmp_path)
    locks = (here.exclusive(), here.exclusive(Task.PULLING), PartitionFolder(tmp_path, other).exclusive())
    with locks[0], locks[1], locks[2], pytest.raises(ConfigError, match="Another run is indexing"):
        here.exclusive().__enter__()


def touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


@pytest.mark.fault("S1")
@pytest.mark.slow
def test_an_indexer_killed_while_it_writes_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    """It may die from the moment on that its snapshot has a folder until some time after it is current."""
    pictures, data, rng = tmp_path / "pictures", tmp_path / "data", random.Random(2)
    pictures.mkdir()
    for n in range(40):
        (pictures / f"p{n}.jpg").write_bytes(drawn(n))
    options = ["--data", str(data), "--catalog", str(pictures), "--model", "colour_grid", "--force", "--keep", "2"]
    command = [sys.executable, "-m", "indexer", "--department", "371", "--domain", "0341", *options]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    new = 0
    for _ in range(often(100, 4)):
        before, writing = hockey(data).current(), hockey(data).path / ".writing"
        began = time.time()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while touched(writing) < began and process.poll() is None:  # the one before may have left it
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        new += Snapshot.current(data, HOCKEY).id != before
    print(f"{new} became current")
    assert new < often(100, 4)  # some died before that
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)  # the next run clears up
    assert not list(hockey(data).path.glob(".writing"))
    assert len(list(hockey(data).path.glob("2*"))) <= 3


@pytest.mark.fault("S3")
@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_the_old_snapshot_and_no_debris(tmp_path: Path) -> None:
    before = snapshot_of(tmp_path, ["p", "q", "q"], VECTORS).id
    index, neighbours = 700 * 64 * 4 + 45, 700 * 100 * 4 + 128  # the largest files

    def limited(limit: int) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", WRITER, str(tmp_path), "1"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, **no_larger_than(limit))

    for limit in (*range(0, neighbours, 64 * 1024), index - 10, index - 1, neighbours - 10, neighbours - 1):
        done = limited(limit)
        assert done.returncode != 0, limit
        assert b"OSError" in done.stderr
        assert Snapshot.current(tmp_path, HOCKEY).id == before
        assert not list(hockey(tmp_path).path.glob(".writing"))


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "digest_of", lambda path: files.FileDigest(0, "another"))
    with pytest.raises(OSError, match="does not read back"):
        files.write_synced(tmp_path / "x", b"data")


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left, at_work = tmp_path / ".CURRENT.0123", tmp_path / ".CURRENT.4567"
    for path in (left, at_work):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    replace_atomically(tmp_path / "CURRENT", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"CURRENT", ".CURRENT.4567"}


@pytest.mark.parametrize("value", ["", "..", "a/b", "-x", "é", "x" * 65, "a b", "\0"])
def test_a_partition_is_safe_in_paths(value: str) -> None:
    with pytest.raises(ConfigError, match="department"):
        Partition(value, "0341")


@pytest.mark.fault("R2")
def test_an_old_snapshot_is_never_written_again(good: Snapshot, tmp_path: Path) -> None:
    state = {path: path.stat().st_mtime_ns for path in good.folder.iterdir()}
    snapshot_of(tmp_path, ["p", "q", "q"], VECTORS[::-1].copy())
    assert {path: path.stat().st_mtime_ns for path in good.folder.iterdir()} == state
