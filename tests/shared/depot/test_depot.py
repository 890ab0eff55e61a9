"""Publish, pull, list and go back: one contract over a folder and over a real S3 server."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.depot import pull as pull_module
from shared.depot.latest import Latest
from shared.depot.publish import publish
from shared.depot.pull import pull
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder, Task
from shared.snapshot.lease import Lease, is_leased
from shared.snapshot.manifest import content_name, signature
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage.bucket import Advance, Bucket
from shared.storage.buckets import open_bucket
from shared.vectors.unit import normalise
from tests.support.processes import no_larger_than
from tests.support.project import ROOT, THOROUGH, often
from tests.support.s3 import s3_server
from tests.support.snapshots import HOCKEY, hockey, hockey_in, point, snapshot_of, standing, unit

LATEST = "snapshots/371/0341/LATEST"
# Does one thing to a depot in a process of its own, and dies (SIGKILL) when the n-th call to the bucket is reached.
MORTAL = """
import os, signal, sys
from pathlib import Path
from shared.storage import folder_bucket as folder
from shared.storage.buckets import open_bucket
from shared.depot.publish import publish
from shared.depot.pull import pull
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
verb, data, uri, last = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
bucket, calls = open_bucket(uri), 0

def counted(act):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == last: os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **named)
    return call

if uri.startswith("s3:"):
    bucket._client.meta.events.register("before-send.s3", counted(lambda **_: None))
else:
    for name in ("read", "replace", "upload", "stream", "entries", "delete"):
        setattr(bucket, name, counted(getattr(bucket, name)))
print("started", flush=True)
{"publish": publish, "pull": pull}[verb](PartitionFolder(data, Partition("371", "0341")), bucket)
print(calls, flush=True)
"""

# Publishes in a process of its own, and waits for a word before it moves LATEST.
RACER = """
import sys
from pathlib import Path
from shared.storage.buckets import open_bucket
from shared.depot.publish import publish
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
bucket = open_bucket(sys.argv[2])
replace = bucket.replace

def waiting(key, *rest):
    if key.endswith("LATEST"):
        print("ready", flush=True)
        sys.stdin.readline()
    return replace(key, *rest)

bucket.replace = waiting
publish(PartitionFolder(Path(sys.argv[1]), Partition("371", "0341")), bucket)
"""


def filled(data: Path, seed: int, rows: int = 20, width: int = 3) -> str:
    """A current snapshot of vectors of that width, another one for each seed."""
    vectors = normalise(np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32))
    return snapshot_of(data, [f"p{n}" for n in range(rows)], vectors).id


def mortal(verb: str, data: Path, bucket: Bucket, last: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", MORTAL, verb, str(data), bucket.uri, str(last)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


def whole(bucket: Bucket, folder: Path) -> str:
    """Fetch what is current and open it: the depot is as it should be."""
    return Snapshot(hockey(folder).snapshot(pull(hockey(folder), bucket))).id


def objects(bucket: Bucket) -> set[str]:
    return {entry.key for entry in bucket.entries("objects/")}


def test_a_snapshot_goes_through_a_depot_unchanged(bucket: Bucket, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one = filled(here, 1)
    assert publish(hockey(here), bucket) == one
    assert standing(bucket) == [one]
    assert pull(hockey(there), bucket) == one
    assert hockey(there).current() == hockey(there).pulled() == one
    for path in hockey(here).snapshot(one).iterdir():
        assert (hockey(there).snapshot(one) / path.name).read_bytes() == path.read_bytes()
    two = filled(here, 2)
    publish(hockey(here), bucket)
    assert standing(bucket) == [two, one]
    publish(hockey(here), bucket)  # once more changes nothing
    assert standing(bucket) == [two, one]
    assert pull(hockey(there), bucket) == two
    assert (hockey(there).current(), hockey(there).previous()) == (two, one)
    assert list(hockey_in(bucket).manifests()) == sorted([one, two], reverse=True)
    assert not list(hockey(there).path.glob(".pulling/*"))


def test_only_what_is_new_is_moved(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    filled(here, 1)
    publish(hockey(here), bucket)
    pull(hockey(there), bucket)
    sent: list[str] = []
    fetched: list[str] = []
    upload, stream = bucket.upload, bucket.stream
    two = filled(here, 2)
    monkeypatch.setattr(bucket, "upload", lambda path, key, told: (sent.append(path.name), upload(path, key, told)))
    publish(hockey(here), bucket)
    monkeypatch.setattr(bucket, "stream", lambda key, start=0: (fetched.append(key), stream(key, start))[1])
    pull(hockey(there), bucket)
    assert "index.faiss" in sent
    assert not {"refused.csv", "products.jsonl"} & set(sent)
    files = verify(hockey(here).snapshot(two)).files
    assert set(fetched) == {hockey_in(bucket).object_key(files[name]) for name in sent}


def test_an_object_that_is_damaged_in_the_depot_is_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    filled(tmp_path / "here", 1)
    publish(hockey(tmp_path / "here"), bucket)
    for key in objects(bucket):
        size = len(b"".join(bucket.stream(key)))
        (tmp_path / "junk").write_bytes(bytes(size))
        bucket.upload(tmp_path / "junk", key, lambda _: None)
    with pytest.raises(SnapshotError, match=r"holds .* damaged"):
        pull(hockey(tmp_path / "there"), bucket)
    assert hockey(tmp_path / "there").current() is None
    publish(hockey(tmp_path / "here"), bucket)
    assert whole(bucket, tmp_path / "there")


def test_a_damaged_snapshot_is_not_published(bucket: Bucket, tmp_path: Path) -> None:
    one = filled(tmp_path, 1)
    (hockey(tmp_path).snapshot(one) / "index.faiss").write_bytes(b"junk")
    with pytest.raises(SnapshotError, match=r"index\.faiss"):
        publish(hockey(tmp_path), bucket)
    assert standing(bucket) == []
    with pytest.raises(SnapshotError, match=r"no snapshot of 1/2 in .* Make one: make index"):
        publish(PartitionFolder(tmp_path, Partition("1", "2")), bucket)
    with pytest.raises(SnapshotError, match="has no snapshot of 1/2"):
        pull(PartitionFolder(tmp_path, Partition("1", "2")), bucket)


@pytest.mark.fault("S5")
@pytest.mark.slow
def test_of_two_publishers_at_the_same_moment_one_wins(bucket: Bucket, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for turn in range(often(50, 2)):
        ids = [filled(folder, 2 * turn + n) for n, folder in enumerate(folders)]
        racers = [racer(folder, bucket) for folder in folders]
        for process in racers:  # both have seen the same LATEST, and are about to move it
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        for process in racers:
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = [process.communicate()[1] for process in racers]
        won = [process.returncode for process in racers].index(0)
        assert said[won] == b""
        assert f"Another publisher was faster: {ids[won]} is current".encode() in said[1 - won]
        assert racers[1 - won].returncode == 1
        assert whole(bucket, tmp_path / "there") == ids[won]


def racer(data: Path, bucket: Bucket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RACER, str(data), bucket.uri]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.fault("S5")
@pytest.mark.parametrize("verb", ["upload", "replace"])
def test_of_two_publishers_one_wins_and_the_other_says_so(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    one, two = filled(tmp_path / "one", 1), filled(tmp_path / "two", 2)
    act = getattr(bucket, verb)

    def overtaken(*arguments: Any) -> Any:
        if verb == "upload" or arguments[0] == LATEST:
            monkeypatch.setattr(bucket, verb, act)
            publish(hockey(tmp_path / "two"), bucket)
        return act(*arguments)

    monkeypatch.setattr(bucket, verb, overtaken)
    with pytest.raises(DepotError, match=f"Another publisher was faster: {two} .* {one} is not"):
        publish(hockey(tmp_path / "one"), bucket)
    assert whole(bucket, tmp_path / "there") == two


@pytest.mark.fault("S2")
@pytest.mark.slow
def test_a_publisher_that_dies_leaves_the_old_snapshot_or_the_new(bucket: Bucket, tmp_path: Path) -> None:
    """It dies before each call to the bucket in turn."""
    here, there = tmp_path / "here", tmp_path / "there"
    filled(here, 0)
    publish(hockey(here), bucket)
    for last in itertools.count(1, often(1, 6)):
        before, new = whole(bucket, there), filled(here, last)
        done = mortal("publish", here, bucket, last)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert whole(bucket, there) in (before, new)
        if done.returncode == 0:
            break
    assert whole(bucket, there) == new


@pytest.mark.slow
def test_a_puller_that_dies_leaves_the_old_snapshot_or_the_new(bucket: Bucket, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    before = published(tmp_path, bucket, 0)
    pull(hockey(there), bucket)
    for last in itertools.count(1, often(1, 3)):
        new = published(tmp_path, bucket, last)
        done = mortal("pull", there, bucket, last)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert Snapshot.current(there, HOCKEY).id in (before, new)
        before = whole(bucket, there)
        assert before == hockey(here).current()
        assert not list(hockey(there).path.glob(".pulling/*"))
        if done.returncode == 0:
            break


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["publish", "pull"])
def test_killed_at_any_moment_it_leaves_a_whole_snapshot(bucket: Bucket, tmp_path: Path, verb: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    rng = random.Random(3)
    size = (4300, 1024) if THOROUGH else (20, 3)  # an index in two parts
    filled(here, 0, *size)
    publish(hockey(here), bucket)
    pull(hockey(there), bucket)
    longest = 0.0
    for seed in range(often(100, 3) + 1):
        before, new = hockey(there).current(), filled(here, seed + 1, *size)
        if verb == "pull":
            publish(hockey(here), bucket)
        command = [sys.executable, "-c", MORTAL, verb, str(there if verb == "pull" else here), bucket.uri, "0"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        began = time.monotonic()
        if seed:
            time.sleep(rng.uniform(0, longest))
            process.kill()
        process.communicate()
        longest = longest or time.monotonic() - began  # of the first one, which may end
        if verb == "publish":
            assert whole(bucket, there) in (before, new)
        assert Snapshot.current(there, HOCKEY).id in (before, new)
    assert publish(hockey(here), bucket) == whole(bucket, there) == new


def test_an_interrupted_pull_goes_on_where_it_stopped(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one = filled(here, 1)
    publish(hockey(here), bucket)
    stream, asked = bucket.stream, dict[str, int]()

    def breaking(key: str, start: int = 0) -> Iterator[bytes]:
        asked[key] = start
        data = b"".join(stream(key, start))
        if len(asked) == 4:
            yield data[: len(data) // 2]
            raise DepotError("gone")
        yield data

    monkeypatch.setattr(bucket, "stream", breaking)
    with pytest.raises(DepotError, match="gone"):
        pull(hockey(there), bucket)
    assert hockey(there).current() is None
    *fetched, half = asked
    monkeypatch.setattr(bucket, "stream", lambda key, start=0: (asked.update({key: start}), stream(key, start))[1])
    asked.clear()
    assert pull(hockey(there), bucket) == one
    assert not set(fetched) & set(asked)
    assert asked[half] > 0


def test_a_part_that_proves_wrong_is_fetched_anew(bucket: Bucket, tmp_path: Path) -> None:
    one = filled(tmp_path / "here", 1)
    publish(hockey(tmp_path / "here"), bucket)
    waiting = hockey(tmp_path / "there").path / ".pulling" / one
    waiting.mkdir(parents=True)
    for path in hockey(tmp_path / "here").snapshot(one).iterdir():
        (waiting / path.name).write_bytes(bytes(path.stat().st_size + random.choice((-1, 0, 1))))
    (waiting / "stranger").write_bytes(b"x")
    (waiting.parent / "20200101T000000Z-0123456789abcdef").mkdir()
    assert whole(bucket, tmp_path / "there") == one
    names = {path.name for path in hockey(tmp_path / "there").snapshot(one).iterdir()}
    assert names == {path.name for path in hockey(tmp_path / "here").snapshot(one).iterdir()}
    assert not waiting.parent.exists()


def test_a_snapshot_that_was_damaged_on_the_host_is_mended(bucket: Bucket, tmp_path: Path) -> None:
    one = filled(tmp_path / "here", 1)
    publish(hockey(tmp_path / "here"), bucket)
    there = tmp_path / "there"
    pull(hockey(there), bucket)
    damaged = hockey(there).snapshot(one) / "index.faiss"
    size, folder = damaged.stat().st_size, damaged.parent.stat().st_ino
    with damaged.open("r+b") as served:  # a server has it mapped into memory, and would crash if it were emptied
        served.write(b"junk")
        served.flush()
        assert whole(bucket, there) == one
        assert os.fstat(served.fileno()).st_size == size
    assert damaged.parent.stat().st_ino == folder  # it was never gone


def limited(verb: str, data: Path, bucket: Bucket, limit: int) -> subprocess.CompletedProcess[bytes]:
    """Do it where no file can have more bytes than that. What it prints goes to a pipe, which has no limit."""
    command = [sys.executable, "-c", MORTAL, verb, str(data), bucket.uri, "0"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, **no_larger_than(limit))


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["publish", "pull"])
def test_a_full_disk_is_an_error_and_leaves_no_debris(bucket: Bucket, tmp_path: Path, verb: str) -> None:
    if verb == "publish" and bucket.uri.startswith("s3:"):
        pytest.skip("another machine's disk")
    here, there = tmp_path / "here", tmp_path / "there"
    one = filled(here, 1, 700, 64)
    publish(hockey(here), bucket)
    pull(hockey(there), bucket)
    two = filled(here, 2, 700, 64)
    if verb == "pull":
        publish(hockey(here), bucket)
    size = max(digest.bytes for digest in verify(hockey(here).snapshot(two)).files.values())
    debris = ".pulling/*" if verb == "pull" else ".sending.*"
    for limit in (*range(0, size, 64 * 1024), size - 10, size - 1):
        done = limited(verb, there if verb == "pull" else here, bucket, limit)
        assert done.returncode == 1, (limit, done)
        assert b"File too large" in done.stderr, (limit, done)
        assert Snapshot.current(there, HOCKEY).id == one
        assert standing(bucket) == ([one] if verb == "publish" else [two, one])
        assert not list(tmp_path.rglob(debris)), limit
    done = limited(verb, there if verb == "pull" else here, bucket, size)
    assert (done.returncode, done.stderr) == (0, b"")
    assert whole(bucket, there) == two


@pytest.mark.fault("S3")
@pytest.mark.slow
def test_a_small_disk_that_fills_up_keeps_the_old_snapshot(bucket: Bucket, tmp_path: Path, small_disk: Path) -> None:
    here, there = tmp_path / "here", small_disk / "there"
    one = filled(here, 1, 700, 64)
    publish(hockey(here), bucket)
    pull(hockey(there), bucket)
    two = filled(here, 2, 700, 64)
    publish(hockey(here), bucket)
    taken = shutil.disk_usage(small_disk).used
    need = sum(digest.bytes for digest in verify(hockey(here).snapshot(two)).files.values())
    for room in (*range(4096, need, 64 * 1024), need - 10, need - 1):
        subprocess.run(["mount", "-o", f"remount,size={taken + room}", str(small_disk)], check=True)
        with pytest.raises(OSError, match="No space left"):
            pull(hockey(there), bucket)
        assert Snapshot.current(there, HOCKEY).id == one
        assert not list(hockey(there).path.glob(".pulling"))
    subprocess.run(["mount", "-o", f"remount,size={taken + 2 * need}", str(small_disk)], check=True)
    assert whole(bucket, there) == two


@pytest.mark.slow
def test_s3_that_is_gone_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = open_bucket("s3://preprod.datamining/depot")
        gone: list[str] = []

        @contextlib.contextmanager
        def meter(what: str, total: int) -> Iterator[Advance]:
            moved = 0

            def advance(more: int) -> None:
                nonlocal moved
                moved += more
                if moved > total // 2 and what not in gone:
                    gone.append(what)
                    server.stop()
                    threading.Timer(often(30, 3), server.start).start()

            yield advance

        one = filled(tmp_path / "here", 1, 4300, 1024)
        assert publish(hockey(tmp_path / "here"), bucket, meter=meter) == one
        assert pull(hockey(tmp_path / "there"), bucket, meter=meter) == one
        assert gone == ["sending", "reading back", "fetching"]
        assert whole(bucket, tmp_path / "there") == one


def test_going_back_in_the_depot(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="has no snapshot of"):
        hockey_in(bucket).go_back()
    one, two, three = (published(tmp_path, bucket, seed) for seed in (1, 2, 3))
    assert hockey_in(bucket).go_back() == two
    assert standing(bucket) == [two, three]
    assert whole(bucket, tmp_path / "there") == two
    assert hockey_in(bucket).go_back(one) == one
    assert hockey_in(bucket).go_back() == two
    with pytest.raises(SnapshotError, match=f"The snapshot none is not in .* TO=.*{one}"):
        hockey_in(bucket).go_back("none")
    for key in objects(bucket):
        bucket.delete(key)
    with pytest.raises(SnapshotError, match="lacks the file"):
        hockey_in(bucket).go_back(three)
    assert standing(bucket) == [two, one]


def test_what_somebody_went_back_from_is_not_published_again(bucket: Bucket, tmp_path: Path) -> None:
    one, two = (published(tmp_path, bucket, seed) for seed in (1, 2))
    hockey_in(bucket).go_back()
    with pytest.raises(DepotError, match=f"Somebody went back from {two} .* rollback TO={two}"):
        publish(hockey(tmp_path / "here"), bucket)  # a nightly run that made nothing new
    assert standing(bucket) == [one, two]
    assert withdrawn(bucket) == [two]
    hockey_in(bucket).go_back(two)
    assert withdrawn(bucket) == [one]
    assert publish(hockey(tmp_path / "here"), bucket) == two
    assert standing(bucket) == [two, one]
    assert published(tmp_path, bucket, 3)


def withdrawn(bucket: Bucket) -> list[str]:
    return hockey_in(bucket).withdrawn(hockey_in(bucket).held_latest())


def test_going_back_outlives_a_publisher_who_forgets_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [published(tmp_path, bucket, seed) for seed in range(4)]
    oldest = min(ids[:2])
    replace = bucket.replace

    def overtaken(key: str, *rest: Any) -> bool:
        if key == LATEST:
            monkeypatch.setattr(bucket, "replace", replace)
            assert oldest in hockey_in(bucket).keep_newest(1, timedelta(seconds=-60))
        return replace(key, *rest)

    monkeypatch.setattr(bucket, "replace", overtaken)
    assert hockey_in(bucket).go_back(oldest) == oldest
    assert whole(bucket, tmp_path / "there") == oldest


def test_what_a_cleaner_removes_while_it_is_published_is_sent_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path, bucket, 1)
    replace = bucket.replace

    def cleaned(key: str, *rest: Any) -> bool:
        if key == LATEST:
            for each in objects(bucket):
                bucket.delete(each)
        return replace(key, *rest)

    monkeypatch.setattr(bucket, "replace", cleaned)
    two = published(tmp_path, bucket, 2)
    assert whole(bucket, tmp_path / "there") == two


def test_one_that_is_current_already_is_only_said_to_be_so_where_it_stays(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = filled(tmp_path / "one", 1), filled(tmp_path / "two", 2)
    publish(hockey(tmp_path / "one"), bucket)
    replace = bucket.replace

    def overtaken(key: str, *rest: Any) -> bool:
        monkeypatch.setattr(bucket, "replace", replace)
        publish(hockey(tmp_path / "two"), bucket)
        return replace(key, *rest)

    monkeypatch.setattr(bucket, "replace", overtaken)
    with pytest.raises(DepotError, match=f"{two} is current now .* {one} is not"):
        publish(hockey(tmp_path / "one"), bucket)


def published(tmp_path: Path, bucket: Bucket, seed: int) -> str:
    filled(tmp_path / "here", seed)
    return publish(hockey(tmp_path / "here"), bucket)


def test_old_snapshots_are_forgotten_but_never_the_current_or_previous(bucket: Bucket, tmp_path: Path) -> None:
    ids = sorted(published(tmp_path, bucket, seed) for seed in range(5))
    current, previous = ids[0], ids[1]
    hockey_in(bucket).go_back(previous)
    hockey_in(bucket).go_back(current)
    before = objects(bucket)
    assert hockey_in(bucket).keep_newest(1) == [ids[3], ids[2]]
    assert sorted(hockey_in(bucket).manifests()) == [current, previous, ids[4]]
    assert objects(bucket) == before  # a publisher may just have sent them
    hockey_in(bucket).keep_newest(1, timedelta(seconds=-60))
    assert objects(bucket) < before
    for snapshot_id in (ids[4], previous, current):
        hockey_in(bucket).go_back(snapshot_id)
        assert whole(bucket, tmp_path / snapshot_id) == snapshot_id


def test_objects_of_another_partition_stay(bucket: Bucket, tmp_path: Path) -> None:
    other = Partition("9", "9")
    snapshot_of(tmp_path / "here", ["a", "b"], unit([1, 0], [0, 1]), other)
    publish(PartitionFolder(tmp_path / "here", other), bucket)
    published(tmp_path, bucket, 1)
    hockey_in(bucket).keep_newest(1, timedelta(seconds=-60))
    assert pull(PartitionFolder(tmp_path / "there", other), bucket)


def test_nothing_is_cleaned_where_a_manifest_cannot_be_read(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 1)
    bucket.replace("snapshots/371/0341/20990101T000000Z-0123456789abcdef/manifest.json", b'{"format": 99}', None)
    before = objects(bucket)
    (tmp_path / "x").write_bytes(b"x")
    bucket.upload(tmp_path / "x", "objects/00/unnamed", lambda _: None)
    with pytest.raises(SnapshotError, match="format 99"):
        hockey_in(bucket).keep_newest(5, timedelta(seconds=-60))
    assert before < objects(bucket)


def test_a_host_keeps_as_many_as_it_is_told(bucket: Bucket, tmp_path: Path) -> None:
    there = tmp_path / "there"
    ids = []
    for seed in range(4):
        ids.append(published(tmp_path, bucket, seed))
        pull(hockey(there), bucket)
        hockey(there).keep_newest(1)
    assert {hockey(there).current(), hockey(there).previous()} == {ids[3], ids[2]}
    assert {ids[3], ids[2]} <= set(hockey(there).ids())
    assert len(hockey(there).ids()) <= 3


def test_an_unsigned_or_wrongly_signed_snapshot_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one = filled(here, 1)
    publish(hockey(here), bucket)
    point(bucket, Latest(1, "371", "0341", one), "the-secret")
    with pytest.raises(SnapshotError, match=f"{one} is not signed"):
        pull(hockey(there), bucket, key="the-secret")
    publish(hockey(here), bucket, key="another-secret")
    point(bucket, Latest(2, "371", "0341", one), "the-secret")
    with pytest.raises(SnapshotError, match=f"{one} is signed with another key") as caught:
        pull(hockey(there), bucket, key="the-secret")
    assert "the-secret" not in str(caught.value)
    assert hockey(there).current() is None
    assert not list(hockey(there).path.glob("2*"))
    publish(hockey(here), bucket, key="the-secret")
    pull(hockey(there), bucket, key="the-secret")
    assert Snapshot.current(there, HOCKEY, "the-secret").id == one
    with pytest.raises(SnapshotError, match="another key"):
        publish(hockey(there), bucket, key="another-secret")


def test_a_snapshot_that_serves_is_never_gone_while_it_is_signed_or_mended(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    one = published(tmp_path, bucket, 1)
    pull(hockey(there), bucket)
    publish(hockey(tmp_path / "here"), bucket, key="the-secret")
    for error in (KeyboardInterrupt, OSError):  # it is killed, or the disk is full
        with monkeypatch.context() as broken:
            broken.setattr(pull_module, "Snapshot", raising(error))
            with pytest.raises(error):
                pull(hockey(there), bucket, key="the-secret")
        assert Snapshot.current(there, HOCKEY).id == one
    lease = Lease(hockey(there).snapshot(one))  # a server's
    pull(hockey(there), bucket, key="the-secret")
    assert Snapshot.current(there, HOCKEY, "the-secret").id == one
    assert is_leased(hockey(there).snapshot(one))
    lease.close()


@pytest.mark.parametrize("there_already", [True, False])
def test_what_is_pulled_is_not_removed_before_it_is_current(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_already: bool
) -> None:
    there = hockey(tmp_path / "there")
    ids = []
    for seed in range(4):
        ids.append(published(tmp_path, bucket, seed))
        pull(there, bucket)
    old, *_ = ids = sorted(ids)
    for snapshot_id in ids[-2:]:
        there.activate(snapshot_id)
    if not there_already:
        shutil.rmtree(there.snapshot(old))
    hockey_in(bucket).go_back(old)
    activate = PartitionFolder.activate

    def pruned(here: PartitionFolder, snapshot_id: str) -> None:
        assert old not in here.keep_newest(1)
        activate(here, snapshot_id)

    monkeypatch.setattr(PartitionFolder, "activate", pruned)
    assert pull(there, bucket) == old
    assert Snapshot.current(there.data, HOCKEY).id == old


def raising(error: type[BaseException]) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_snapshot_of_another_partition_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    other = Partition("1", "2")
    foreigner = snapshot_of(tmp_path / "here", ["a", "b"], unit([1, 0], [0, 1]), other).id
    publish(PartitionFolder(tmp_path / "here", other), bucket, key="the-secret")
    for entry in [*bucket.entries("snapshots/1/2/"), *bucket.entries("objects/1/2/")]:
        bucket.replace(entry.key.replace("1/2", "371/0341"), b"".join(bucket.stream(entry.key)), None)
    with pytest.raises(SnapshotError, match="LATEST of 371/0341 is one of 1/2"):
        pull(hockey(tmp_path / "there"), bucket, key="the-secret")
    point(bucket, Latest(1, "371", "0341", foreigner), "the-secret")
    with pytest.raises(SnapshotError, match=f"{foreigner} is one of 1/2, not of 371/0341"):
        pull(hockey(tmp_path / "there"), bucket, key="the-secret")
    assert hockey(tmp_path / "there").current() is None


def test_what_does_not_open_does_not_become_current(bucket: Bucket, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    one = published(tmp_path, bucket, 1)
    pull(hockey(there), bucket)
    folder = hockey(here).snapshot(filled(here, 2))
    fields = json.loads((folder / "manifest.json").read_text()) | {"count": 21}
    (folder / "manifest.json").write_text(json.dumps(fields))  # by a faulty indexer
    renamed = folder.rename(folder.with_name(f"{folder.name[:17]}{content_name(json.dumps(fields).encode())}"))
    hockey(here).activate(renamed.name)
    publish(hockey(here), bucket)
    with pytest.raises(SnapshotError, match="not the size that its manifest states"):
        pull(hockey(there), bucket)
    assert Snapshot.current(there, HOCKEY).id == one


@pytest.mark.fault("S6")
def test_a_file_that_the_depot_lacks_is_named(bucket: Bucket, tmp_path: Path) -> None:
    one = published(tmp_path, bucket, 1)
    digest = verify(hockey(tmp_path / "here").snapshot(one)).files["index.faiss"]
    bucket.delete(hockey_in(bucket).object_key(digest))
    with pytest.raises(SnapshotError, match=rf"lacks index\.faiss of {one}. Publish it again"):
        pull(hockey(tmp_path / "there"), bucket)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"20990101T000000Z-0123456789abcdef", b""])
def test_a_damaged_current_is_mended(bucket: Bucket, tmp_path: Path, damage: bytes) -> None:
    one = published(tmp_path, bucket, 1)
    pull(hockey(tmp_path / "there"), bucket)
    (hockey(tmp_path / "there").path / "CURRENT").write_bytes(damage)
    assert whole(bucket, tmp_path / "there") == one
    assert hockey(tmp_path / "there").current() == one


def test_a_manifest_in_the_depot_cannot_name_files_elsewhere(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 1)
    for name in ("../../../escaped", "/escaped", "manifest.json", "..", ""):
        foreign(bucket, {name: {"bytes": 1, "sha256": "0" * 64}})
        with pytest.raises(SnapshotError, match="no file in the snapshot"):
            pull(hockey(tmp_path / "there"), bucket)
    foreign(bucket, {"x": {"bytes": 1, "sha256": "../../etc/passwd"}})
    with pytest.raises(SnapshotError, match="SHA-256 that is none"):
        pull(hockey(tmp_path / "there"), bucket)
    assert hockey(tmp_path / "there").current() is None
    assert not list(tmp_path.rglob("escaped"))


FOREIGN: dict[str, Any] = {
    "format": 1,
    "department": "371",
    "domain": "0341",
    "created": "2099-01-01T00:00:00+00:00",
    "count": 1,
    "products": 1,
    "dimension": 1,
    "metric": "",
    "store": "faiss",
    "embedder": {"name": "x", "dimension": 1, "image_size": 1, "fingerprint": "x"},
    "catalog": {"uri": "x"},
    "failures": {},
    "quality": {},
    "index": {"kind": "flat", "bytes": 1},
}


def foreign(bucket: Bucket, files: dict[str, Any]) -> None:
    """Put a manifest that lists these files into the depot, and make it current, as someone who can write there."""
    manifest = json.dumps(FOREIGN | {"files": files}).encode()
    snapshot_id = f"20990101T000000Z-{hashlib.sha256(manifest).hexdigest()[:16]}"
    bucket.replace(f"snapshots/371/0341/{snapshot_id}/manifest.json", manifest, None)
    held = bucket.read(LATEST)
    assert held
    assert bucket.replace(LATEST, f"{snapshot_id}\n".encode(), held.tag)


@pytest.mark.parametrize("text", [b"", b"..\n", b"../../etc\n", b"\xff\xfe", b"a\nb\nc\n"])
def test_a_latest_that_names_no_snapshot_is_refused(bucket: Bucket, tmp_path: Path, text: bytes) -> None:
    bucket.replace(LATEST, text, None)
    with pytest.raises(SnapshotError, match="LATEST of 371/0341 does not name"):
        pull(hockey(tmp_path / "there"), bucket)
    one = published(tmp_path, bucket, 1)  # the next publisher replaces it
    assert whole(bucket, tmp_path / "there") == one


def test_one_pull_at_a_time(bucket: Bucket, tmp_path: Path) -> None:
    with hockey(tmp_path).exclusive(Task.PULLING), pytest.raises(ConfigError, match="Another run is pulling 371/0341"):
        pull(hockey(tmp_path), bucket)


def test_a_meter_sees_every_byte(bucket: Bucket, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def meter(what: str, total: int) -> Iterator[Advance]:
        moved: list[int] = []
        yield moved.append
        assert sum(moved) == total
        seen[what] = moved

    filled(tmp_path, 1)
    publish(hockey(tmp_path), bucket, meter=meter)
    pull(hockey(tmp_path / "there"), bucket, meter=meter)
    assert set(seen) == {"sending", "reading back", "fetching"}


def test_a_signature_is_hmac_sha256() -> None:
    assert signature(b"what do ya want for nothing?", "Jefe") == (
        b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\n"  # RFC 4231, case 2
    )
