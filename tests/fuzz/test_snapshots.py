"""Manifests, the pointers of depots and hosts, files of keys, and journals: read, or refused with a sentence."""

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from server.middleware.api_keys import read_keys
from shared.depot.depot import Latest
from shared.embedding.families.onnx_file import read_preprocessing
from shared.errors import ConfigError, ModelError, NotKept, SnapshotError, UnknownProduct
from shared.live.journal import Journal, LiveImage, Pins
from shared.snapshot.directory import is_id
from shared.snapshot.manifest import Manifest
from tests.support.fuzzing import damaged, fuzz, is_refused
from tests.support.golden import FOLDERS, KEY
from tests.support.snapshots import HOCKEY, hockey, unit

TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b"9" * 5000,
    b"[" * 5000,
    b"\xff",
    b"true",
    b'"format": 1,',
]
MANIFESTS = [(folder / "manifest.json").read_bytes() for folder in FOLDERS]
ID = "20261122T103000Z-1f3a5c7e9b2d4f60"


def test_a_manifest_is_read_or_refused_and_written_as_it_was_read() -> None:
    def holds(data: bytes) -> None:
        read = list[Manifest]()
        is_refused(lambda: read.append(Manifest.from_json(data, ID)), SnapshotError)
        for manifest in read:
            assert Manifest.from_json(manifest.to_json(), ID) == manifest

    fuzz(damaged(st.sampled_from(MANIFESTS), TOKENS, most=2), holds, 150)


def test_latest_names_snapshots_or_is_refused() -> None:
    def holds(data: bytes) -> None:
        read = list[Latest]()
        is_refused(lambda: read.append(Latest.from_bytes(data, HOCKEY)), SnapshotError)
        is_refused(lambda: read.append(Latest.from_bytes(data, HOCKEY, KEY)), SnapshotError)
        for latest in read:
            assert latest.version == 0 or Latest.from_bytes(latest.to_bytes(KEY), HOCKEY, KEY) == latest
            assert is_id(latest.current)

    now = Latest(1, HOCKEY.department, HOCKEY.domain, ID, ID, (ID,))
    valid = [f"{ID}\n".encode(), f"{ID}\n{ID}\n".encode(), now.to_bytes(), now.to_bytes(KEY)]
    fuzz(
        damaged(st.sampled_from(valid), [b"../", b"\n", ID.encode(), b"\xd9\xa3", *TOKENS]),
        holds,
    )


def test_current_names_a_snapshot_or_is_refused(tmp_path: Path) -> None:
    here = hockey(tmp_path)
    here.path.mkdir(parents=True)

    def holds(data: bytes) -> None:
        (here.path / "CURRENT").write_bytes(data)
        if not is_refused(here.snapshot, SnapshotError):
            assert here.snapshot().parent == here.path
            assert is_id(here.snapshot().name)

    fuzz(damaged(st.just(f"{ID}\n".encode()), [b"../", b"\n", ID.encode(), b"\0"]), holds)


def test_a_file_of_keys_is_read_or_refused(tmp_path: Path) -> None:
    key = {
        "name": "shop",
        "role": "read",
        "sha256": "0" * 64,
        "created": "2026-01-01",
        "expires": "2026-01-01T00:00:00+00:00",
    }
    path = tmp_path / "keys.json"

    def holds(data: bytes) -> None:
        path.write_bytes(data)
        is_refused(lambda: [key.expired for key in read_keys(path)], ConfigError)

    fuzz(damaged(st.just(json.dumps({"keys": [key, {**key, "expires": None}]}).encode()), TOKENS, most=3), holds, 150)


def test_how_pictures_are_prepared_is_read_or_refused(tmp_path: Path) -> None:
    config = {
        "size": {"shortest_edge": 224},
        "crop_size": 224,
        "do_center_crop": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    path = tmp_path / "preprocessor_config.json"

    def holds(data: bytes) -> None:
        path.write_bytes(data)
        is_refused(lambda: read_preprocessing(path), ModelError)

    fuzz(damaged(st.just(json.dumps(config).encode()), TOKENS, most=3), holds, 100)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_a_journal_is_read_and_written_or_refused(tmp_path: Path) -> None:
    sound = Journal(tmp_path / "sound", HOCKEY)
    sound.put("p1", {"name": "x" * 50}, [LiveImage("i1", "", b"x" * 5000)], "net", unit([1, 2, 3]))
    sound.pin("p1", Pins(("p2",), ("p3",)))
    sound.set_available(["p4"])
    sound.delete("p2", indexed=True)
    name = "live/371/0341.sqlite"
    data = (tmp_path / "sound" / name).read_bytes()
    assert not (tmp_path / "sound" / f"{name}-wal").exists()
    path = tmp_path / name
    path.parent.mkdir(parents=True)

    def use(journal: Journal) -> None:
        journal.state()
        with journal.reading() as reading:
            reading.clock(), reading.unavailable(), reading.pins()
            for change in reading.changes():
                reading.vectors(change.seq, "net")
                for _, address in reading.addresses(change.seq):
                    reading.picture(address), reading.data(change.seq, 0)
        journal.put("p1", {}, [LiveImage("i1", "", b"y")], "net", unit([1, 2, 3]))
        journal.set_available(["p1"], ["p4"])
        journal.delete("p3", indexed=True)

    def holds(damage: bytes) -> None:
        path.write_bytes(damage)
        journal = Journal(tmp_path, HOCKEY)
        journal.mark_path.unlink(missing_ok=True)  # which would refuse most of them at once
        try:
            is_refused(lambda: use(journal), NotKept, UnknownProduct)
        finally:
            journal.close()
            for left in path.parent.glob("0341.sqlite-*"):
                left.unlink()

    fuzz(damaged(st.just(data), [b"\0" * 100, b"{", b"[1]"]), holds)
