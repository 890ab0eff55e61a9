"""Depots in which somebody else writes: old pointers, paths, sizes and networks that a host must not follow."""

import hashlib
import json
import os
import pickle
import struct
import sys
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from server.serving.depot_follower import Follower, problems
from shared.depot.depot import DepotPartition
from shared.depot.latest import Latest
from shared.depot.publish import publish
from shared.depot.pull import pull
from shared.embedding.engines.runtime import Engine, Runtime
from shared.embedding.families.torch_file import read_tensors
from shared.errors import DepotError, ModelError, SnapshotError
from shared.snapshot.manifest import Manifest, signature
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage.bucket import Bucket
from shared.storage.buckets import open_bucket
from tests.support.server import serving, until
from tests.support.snapshots import HOCKEY, hockey, hockey_in, point, snapshot_of, standing, unit

KEY = "the-secret"
LATEST = "snapshots/371/0341/LATEST"
KEYS = pytest.mark.parametrize("key", [None, KEY])


def published(tmp_path: Path, bucket: Bucket, seed: int, key: str | None = None) -> str:
    vectors = unit(*[[seed + 1.0, n, 1] for n in range(20)])
    snapshot_of(tmp_path / "here", [f"p{n}" for n in range(20)], vectors)
    return publish(hockey(tmp_path / "here"), bucket, key=key)


def latest(bucket: Bucket) -> Latest:
    found = hockey_in(bucket).latest()
    assert found
    return found


def put(bucket: Bucket, key: str, data: bytes) -> None:
    held = bucket.read(key)
    assert bucket.replace(key, data, held.tag if held else None)


def read(bucket: Bucket, key: str) -> bytes:
    held = bucket.read(key)
    assert held
    return held.data


@KEYS
def test_every_publish_and_every_rollback_is_a_new_version(bucket: Bucket, tmp_path: Path, key: str | None) -> None:
    versions = []
    for act in (0, 1, 1, "back"):
        if act == "back":
            DepotPartition(bucket, HOCKEY, key, hockey(tmp_path / "here")).go_back()
        else:
            published(tmp_path, bucket, int(act), key)
        versions.append(latest(bucket).version)
    assert versions == sorted(set(versions))


@pytest.mark.fault("B11")
@KEYS
def test_a_pointer_that_is_put_back_moves_no_host(bucket: Bucket, tmp_path: Path, key: str | None) -> None:
    data = tmp_path / "a"
    published(tmp_path, bucket, 0, key)
    old = read(bucket, LATEST)
    two = published(tmp_path, bucket, 1, key)
    follower = Follower(data, bucket, key=key)
    follower.look()
    put(bucket, LATEST, old)
    follower.look()
    assert "somebody put back an old one" in problems(data)["371/0341"]
    assert "make rollback TO=" in problems(data)["371/0341"]
    with pytest.raises(SnapshotError, match="this host has seen version"):
        pull(hockey(data), bucket, key=key)
    Follower(data, bucket, key=key).look()  # after a restart
    assert hockey(data).current() == two
    assert publish(hockey(tmp_path / "here"), bucket, key=key) == two  # the remedy
    follower.look()
    assert problems(data) == {}


@KEYS
def test_a_restored_depot_serves_again_by_a_command_from_any_host(
    bucket: Bucket, tmp_path: Path, key: str | None
) -> None:
    data = tmp_path / "a"
    one = published(tmp_path, bucket, 0, key)
    backup = read(bucket, LATEST)
    published(tmp_path, bucket, 1, key)
    pull(hockey(data), bucket, key=key)
    put(bucket, LATEST, backup)
    DepotPartition(bucket, HOCKEY, key).go_back(one)
    assert pull(hockey(data), bucket, key=key) == one


def test_one_version_has_one_content(bucket: Bucket, tmp_path: Path) -> None:
    one, two = (published(tmp_path, bucket, seed, KEY) for seed in (0, 1))
    pull(hockey(tmp_path / "a"), bucket, key=KEY)
    point(bucket, Latest(latest(bucket).version, "371", "0341", one, two), KEY)
    with pytest.raises(SnapshotError, match="another content of that version"):
        pull(hockey(tmp_path / "a"), bucket, key=KEY)
    assert hockey(tmp_path / "a").current() == two


@pytest.mark.fault("B11")
@pytest.mark.parametrize("key", [None, "another-secret"])
def test_a_pointer_that_the_key_did_not_sign_is_refused(bucket: Bucket, tmp_path: Path, key: str | None) -> None:
    data = tmp_path / "a"
    one, two = (published(tmp_path, bucket, seed, KEY) for seed in (0, 1))
    pull(hockey(data), bucket, key=KEY)
    far = latest(bucket).version + 10**9
    point(bucket, Latest(far, "371", "0341", one, two), key)
    with pytest.raises(
        SnapshotError, match=r"LATEST of 371/0341 is (not signed|signed with another key).*make publish"
    ):
        pull(hockey(data), bucket, key=KEY)
    signed = read(bucket, LATEST)
    put(bucket, LATEST, signed.replace(one.encode(), two.encode()))
    with pytest.raises(SnapshotError, match="LATEST of 371/0341 is"):
        pull(hockey(data), bucket, key=KEY)
    assert hockey(data).current() == two
    publish(hockey(tmp_path / "here"), bucket, key=KEY)
    assert latest(bucket).version < far  # a number that nobody signed counts for nothing
    assert pull(hockey(data), bucket, key=KEY) == two


def test_a_pointer_of_another_partition_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    one = published(tmp_path, bucket, 0, KEY)
    point(bucket, Latest(latest(bucket).version + 1, "371", "9999", one), KEY)
    with pytest.raises(SnapshotError, match="LATEST of 371/0341 is one of 371/9999"):
        pull(hockey(tmp_path / "a"), bucket, key=KEY)


def test_a_depot_of_before_goes_on_and_is_signed_by_the_next_publish(bucket: Bucket, tmp_path: Path) -> None:
    one, two = (published(tmp_path, bucket, seed) for seed in (0, 1))
    (tmp_path / "here" / "snapshots" / "371" / "0341").joinpath("CURRENT").write_text(f"{one}\n")
    for file in hockey(tmp_path / "here").path.glob(".latest-*"):
        file.unlink()
    put(bucket, LATEST, f"{two}\n{one}\n".encode())
    put(bucket, f"snapshots/371/0341/{one}/withdrawn", b"")
    assert (latest(bucket).version, standing(bucket)) == (0, [two, one])
    assert pull(hockey(tmp_path / "a"), bucket) == two
    with pytest.raises(SnapshotError, match=r"is an old one, which is not signed. Publish once more: make publish"):
        pull(hockey(tmp_path / "b"), bucket, key=KEY)
    for key in (None, KEY):  # what was withdrawn before stays so
        with pytest.raises(DepotError, match=f"Somebody went back from {one}"):
            publish(hockey(tmp_path / "here"), bucket, key=key)
    hockey(tmp_path / "here").activate(two)
    publish(hockey(tmp_path / "here"), bucket, key=KEY)
    bucket.delete(f"snapshots/371/0341/{one}/withdrawn")
    hockey(tmp_path / "here").activate(one)
    with pytest.raises(DepotError, match=f"Somebody went back from {one}"):
        publish(hockey(tmp_path / "here"), bucket, key=KEY)
    assert pull(hockey(tmp_path / "b"), bucket, key=KEY) == two


def test_an_old_pointer_does_not_bring_back_what_was_withdrawn(bucket: Bucket, tmp_path: Path) -> None:
    one, two = (published(tmp_path, bucket, seed, KEY) for seed in (0, 1))
    before = read(bucket, LATEST)
    here = hockey(tmp_path / "here")
    DepotPartition(bucket, HOCKEY, KEY, here).go_back()
    for content in (before, b"junk"):
        put(bucket, LATEST, content)
        with pytest.raises(DepotError, match=f"Somebody went back from {two}"):
            publish(here, bucket, key=KEY)  # a nightly run that made nothing new
    assert hockey(tmp_path / "here").current() == two != one


@pytest.mark.fault("B11")
@pytest.mark.slow
def test_a_server_goes_on_with_what_it_has_and_says_why(bucket: Bucket, tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    published(tmp_path, bucket, 0, KEY)
    old = read(bucket, LATEST)
    two = published(tmp_path, bucket, 1, KEY)
    with serving(data, SIMILARITY_DEPOT=bucket.uri, SIMILARITY_SIGNING_KEY=KEY) as base:
        put(bucket, LATEST, old)
        until(lambda: "somebody put back an old one" in refused(base).get("371/0341", ""))
        with urllib.request.urlopen(f"{base}/v1/371/0341/products/p1/similar", timeout=10) as answer:
            assert json.load(answer)["snapshot"] == two
        with urllib.request.urlopen(f"{base}/metrics", timeout=10) as answer:
            assert 'similarity_snapshot_refused{partition="371/0341"} 1.0' in answer.read().decode()
        assert publish(hockey(tmp_path / "here"), bucket, key=KEY) == two
        until(lambda: refused(base) == {})
    assert "somebody put back an old one" in (data / "serve.log").read_text()


def refused(base: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{base}/readyz", timeout=10) as answer:
        return dict(json.load(answer)["refused"])


def test_a_new_host_takes_the_first_signed_pointer(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 0, KEY)
    old = read(bucket, LATEST)
    two = published(tmp_path, bucket, 1, KEY)
    assert pull(hockey(tmp_path / "a"), bucket, key=KEY) == two
    put(bucket, LATEST, old)
    assert pull(hockey(tmp_path / "new"), bucket, key=KEY) != two
    for file in hockey(tmp_path / "a").path.glob(".latest-*"):
        file.write_bytes(b"\xff damaged")
    assert pull(hockey(tmp_path / "a"), bucket, key=KEY) != two


def test_a_large_pointer_or_manifest_is_not_read_to_its_end(bucket: Bucket, tmp_path: Path) -> None:
    size = 2 * 1024 * 1024
    one = published(tmp_path, bucket, 0)
    manifest = f"snapshots/371/0341/{one}/manifest.json"
    put(bucket, manifest, read(bucket, manifest) + b" " * size)
    assert len(read(bucket, manifest)) == 1024 * 1024 + 1
    with pytest.raises(SnapshotError, match=r"manifest of .* is larger than"):
        pull(hockey(tmp_path / "a"), bucket)
    put(bucket, LATEST, read(bucket, LATEST) + b" " * size)
    with pytest.raises(SnapshotError, match="LATEST of 371/0341 does not name a snapshot"):
        pull(hockey(tmp_path / "a"), bucket)
    assert publish(hockey(tmp_path / "here"), bucket) == pull(hockey(tmp_path / "a"), bucket) == one


@pytest.mark.fault("B12")
def test_an_object_that_is_larger_than_stated_is_not_written(bucket: Bucket, tmp_path: Path) -> None:
    one = published(tmp_path, bucket, 0)
    digest = verify(hockey(tmp_path / "here").snapshot(one)).files["index.faiss"]
    (tmp_path / "large").write_bytes(bytes(digest.bytes + 5 * 1024 * 1024))
    bucket.upload(tmp_path / "large", hockey_in(bucket).object_key(digest), lambda _: None)
    moved: list[int] = []
    stream = bucket.stream

    def counted(key: str, start: int = 0) -> Any:
        for piece in stream(key, start):
            moved.append(len(piece))
            yield piece

    bucket.stream = counted  # type: ignore[method-assign]
    with pytest.raises(SnapshotError, match=rf"holds index\.faiss of {one} larger than the {digest.bytes:,} bytes"):
        pull(hockey(tmp_path / "a"), bucket)
    assert max(moved) <= 1024 * 1024
    assert sum(moved) < 3 * 1024 * 1024
    assert not list((tmp_path / "a").rglob("index.faiss"))


def test_a_listing_ends(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, bucket, 0)
    monkeypatch.setattr("shared.storage.bucket._MOST_LISTED", 3)
    (tmp_path / "a" / "snapshots").mkdir(parents=True)
    Follower(tmp_path / "a", bucket).look()
    assert "more than 3 objects" not in str(problems(tmp_path / "a"))
    for n in range(3):
        put(bucket, f"snapshots/{n}", b"")
    Follower(tmp_path / "a", bucket).look()
    assert "has more than 3 objects" in problems(tmp_path / "a")["depot"]


FILE = {"bytes": 1, "sha256": "0" * 64}


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"files": {name: FILE}}
            for name in ("../x", "/x", "a/b", "..", ".", "", ".x", "a\\b", "C:\\x", "a\0b", "a\nb", "x" * 256)
        ),
        {"files": {"manifest.json": FILE}},
        {"files": {"manifest.sig": FILE}},
        {"files": {f"f{n}": FILE for n in range(1001)}},
        {"files": {"x": {"bytes": -1, "sha256": "0" * 64}}},
        {"embedder": ["../../evil.keras"]},
        {"embedder": ["weights.0.unlisted"]},
        {"embedder": ["index.faiss"]},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_names_in_a_manifest_are_files_in_the_snapshot(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError, match=r"no file in the snapshot|does not list|lists more than"):
        Manifest.from_json(changed(tmp_path, **changes), "x")


def changed(tmp_path: Path, **changes: Any) -> bytes:
    """The manifest of a snapshot with other fields; `embedder` are the files of its network."""
    folder = snapshot_of(tmp_path / "one", ["p", "q"], unit([1, 0], [0, 1])).folder
    fields = json.loads((folder / "manifest.json").read_text())
    if "embedder" in changes:
        changes["embedder"] = fields["embedder"] | {"files": changes["embedder"]}
    return json.dumps(fields | changes).encode()


def test_a_link_in_a_snapshot_or_a_depot_is_not_followed(tmp_path: Path) -> None:
    folder = snapshot_of(tmp_path / "one", ["p", "q"], unit([1, 0], [0, 1])).folder
    (folder / "report.json").rename(tmp_path / "report.json")
    (folder / "report.json").symlink_to(tmp_path / "report.json")
    with pytest.raises(SnapshotError, match=r"lacks its file report\.json"):
        Snapshot(folder)
    (tmp_path / "depot" / "a").mkdir(parents=True)
    bucket = open_bucket((tmp_path / "depot").as_uri())
    (tmp_path / "depot" / "a" / "link").symlink_to(tmp_path / "report.json")
    os.mkfifo(tmp_path / "depot" / "a" / "pipe")
    for key in ("a/link", "a/pipe"):
        with pytest.raises(DepotError, match="cannot be used"):
            bucket.read(key)
        with pytest.raises(DepotError, match="cannot be used"):
            list(bucket.stream(key))


def made_with(folder: Path, name: str, weights: bytes = b"", key: str | None = None) -> Path:
    """A snapshot whose manifest somebody changed so that it names this network, with a file of weights if any."""
    fields = json.loads((folder / "manifest.json").read_text())
    fields["embedder"] |= {"name": name}
    if weights:
        (folder / "weights.0.evil.keras").write_bytes(weights)
        fields["embedder"]["files"] = ["weights.0.evil.keras"]
        fields["files"]["weights.0.evil.keras"] = {
            "bytes": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
    content = json.dumps(fields).encode()
    (folder / "manifest.json").write_bytes(content)
    if key:
        (folder / "manifest.sig").write_bytes(signature(content, key))
    return folder.rename(folder.with_name(f"{folder.name[:17]}{hashlib.sha256(content).hexdigest()[:16]}"))


@pytest.mark.fault("B12")
@pytest.mark.parametrize("engine", [Engine.OPENVINO, Engine.TENSORFLOW])
@pytest.mark.parametrize("kind", ["evil.keras", "evil.onnx", "folder", "vgg19+evil.keras"])
def test_a_snapshot_cannot_name_a_network_of_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, kind: str
) -> None:
    (tmp_path / "folder").mkdir()
    for path in ("evil.keras", "evil.onnx", "folder/model.onnx", "folder/preprocessor_config.json"):
        (tmp_path / path).write_bytes(b"x")
    folder = snapshot_of(tmp_path / "one", ["p", "q"], unit([1, 0], [0, 1])).folder
    monkeypatch.chdir(tmp_path)
    for name in (kind, f"{tmp_path}/{kind}"):
        folder = made_with(folder, name)
        with pytest.raises(ModelError, match="which is none of this program"):
            Snapshot(folder).load_embedder(Runtime(engine=engine))


def test_a_saved_model_of_a_snapshot_is_opened_only_if_it_is_signed(tmp_path: Path) -> None:
    folder = snapshot_of(tmp_path / "one", ["p", "q"], unit([1, 0], [0, 1])).folder
    folder = made_with(folder, "saved", b"could hold code", KEY)
    runtime = Runtime(tmp_path / "networks", Engine.TENSORFLOW)
    with pytest.raises(ModelError, match=r"a saved Keras model, which can hold code.*Set SIGNING_KEY"):
        Snapshot(folder).load_embedder(runtime)
    with pytest.raises(ModelError, match="cannot be loaded as a saved Keras model"):
        Snapshot(folder, KEY).load_embedder(runtime)


@pytest.mark.parametrize(("count", "shape", "why"), [(2**60, 1, "ends too early"), (1, 10**18, "beyond its storage")])
def test_a_weights_file_takes_no_more_memory_than_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, shape: int, why: str
) -> None:
    """It says that it holds an exabyte, or repeats one value a quintillion times."""
    torch = ModuleType("torch._utils")
    torch._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "torch._utils", torch)

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._rebuild_tensor_v2, (("key", "<f4"), 0, (shape,), (0,))

    parts = (0x1950A86A20F9469CFC6C, 1001, {}, {"weight": Tensor()}, ["key"])
    end = struct.pack("<qf", count, 1.0)
    (tmp_path / "weights.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + end)
    with pytest.raises(ModelError, match=why):
        read_tensors(tmp_path / "weights.pth")
