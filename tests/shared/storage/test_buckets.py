"""One contract, over a folder and over a real S3 server."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ResponseStreamingError

from shared.errors import ConfigError, DepotError
from shared.storage import s3_bucket
from shared.storage.bucket import Bucket
from shared.storage.buckets import open_bucket
from shared.storage.s3_bucket import S3Bucket

BIG = bytes(range(256)) * 4096 * 20  # 20 MiB: more than one part


def put(bucket: Bucket, folder: Path, key: str, data: bytes) -> None:
    path = folder / "source"
    path.write_bytes(data)
    moved: list[int] = []
    bucket.upload(path, key, moved.append)
    assert sum(moved) == len(data)


def test_what_goes_in_comes_out(bucket: Bucket, tmp_path: Path) -> None:
    for key, data in (("objects/aa/big", BIG), ("objects/bb/small", b"small"), ("objects/bb/empty", b"")):
        put(bucket, tmp_path, key, data)
        assert b"".join(bucket.stream(key)) == data
        assert b"".join(bucket.stream(key, 3)) == data[3:]
    assert list(bucket.stream("objects/bb/small", 5)) == []
    assert list(bucket.stream("objects/bb/small", 99)) == []
    assert {entry.key: entry.bytes for entry in bucket.entries("objects/")} == {
        "objects/aa/big": len(BIG),
        "objects/bb/small": 5,
        "objects/bb/empty": 0,
    }
    assert [entry.key for entry in bucket.entries("objects/bb/s")] == ["objects/bb/small"]
    put(bucket, tmp_path, "objects/bb/small", b"another")
    assert b"".join(bucket.stream("objects/bb/small")) == b"another"
    bucket.delete("objects/bb/small")
    bucket.delete("objects/bb/small")
    assert [entry.key for entry in bucket.entries("objects/bb/")] == ["objects/bb/empty"]


def test_a_small_object_is_replaced_only_by_who_saw_the_last_one(bucket: Bucket) -> None:
    assert bucket.read("a/b") is None
    assert bucket.replace("a/b", b"1", None)
    assert not bucket.replace("a/b", b"2", None)
    first = bucket.read("a/b")
    assert first
    assert first.data == b"1"
    (before,) = bucket.entries("a/")
    assert bucket.replace("a/b", b"2", first.tag)
    assert not bucket.replace("a/b", b"3", first.tag)
    assert not bucket.replace("a/none", b"3", first.tag)
    held = bucket.read("a/b")
    assert held
    assert held.data == b"2"
    (after,) = bucket.entries("a/")
    assert before.change != after.change


def test_of_many_at_once_one_wins(bucket: Bucket) -> None:
    won: list[int] = []

    def race(number: int) -> None:
        if bucket.replace("x", b"%d" % number, None):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = bucket.read("x")
    assert held
    assert [b"%d" % number for number in won] == [held.data]


def test_what_is_missing_is_named(bucket: Bucket) -> None:
    assert list(bucket.entries("objects/")) == []
    with pytest.raises(KeyError, match="objects/none"):
        list(bucket.stream("objects/none"))


def test_a_folder_that_is_not_mounted_is_no_empty_depot(tmp_path: Path) -> None:
    bucket = open_bucket((tmp_path / "mount").as_uri())
    (tmp_path / "x").write_bytes(b"x")
    for use in (
        lambda: bucket.read("x"),
        lambda: list(bucket.entries("")),
        lambda: bucket.replace("x", b"x", None),
        lambda: bucket.upload(tmp_path / "x", "x", print),
        lambda: list(bucket.stream("x")),
    ):
        with pytest.raises(DepotError, match=r"is not there\. Is it mounted"):
            use()
    assert not (tmp_path / "mount").exists()


def test_who_lists_and_sends_does_not_mind_who_removes(bucket: Bucket, tmp_path: Path) -> None:
    if not bucket.uri.startswith("file:"):
        pytest.skip("S3 has no folders that vanish")
    (tmp_path / "x").write_bytes(b"x")
    end = time.monotonic() + 1

    def work(number: int) -> None:
        while time.monotonic() < end:
            bucket.upload(tmp_path / "x", f"objects/{number % 2}/{number}", lambda _: None)
            list(bucket.entries("objects/"))
            bucket.delete(f"objects/{number % 2}/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("uri", ["", "depot", "/depot", "http://x", "file://host/x", "s3://", "s3:///x"])
def test_a_place_that_is_none_is_named(uri: str) -> None:
    with pytest.raises(ConfigError, match="depot"):
        open_bucket(uri)


@pytest.mark.fault("S4")
@pytest.mark.fault("O1")
@pytest.mark.slow
def test_s3_says_what_is_wrong_and_shows_no_key(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DepotError, match=r"s3://no-such-bucket/x.* cannot be used \(NoSuchBucket"):
        open_bucket("s3://no-such-bucket/x").read("y")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(DepotError, match="SignatureDoesNotMatch") as caught:
        open_bucket("s3://preprod.datamining").read("x")
    assert "wrong-secret" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:top-secret@127.0.0.1:9")
    monkeypatch.setattr(s3_bucket, "_ATTEMPTS", 0)
    with pytest.raises(DepotError, match="cannot be used") as caught:
        open_bucket("s3://preprod.datamining").read("x")
    assert "top-secret" not in str(caught.value)


@pytest.mark.slow
def test_a_broken_connection_goes_on_where_it_stopped(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    bucket = open_bucket("s3://preprod.datamining/broken")
    assert isinstance(bucket, S3Bucket)
    put(bucket, tmp_path, "big", BIG)
    asked: list[str | None] = []
    honest = bucket._client.get_object

    class Breaking:
        def __init__(self, body: Any) -> None:
            self.body = body

        def iter_chunks(self, size: int) -> Any:
            for number, piece in enumerate(self.body.iter_chunks(size)):
                if number == 3:
                    self.body.close()
                    raise ResponseStreamingError(error="broken")
                yield piece

        def close(self) -> None:
            self.body.close()

    def get_object(**arguments: Any) -> Any:
        asked.append(arguments.get("Range"))
        answer = honest(**arguments)
        return {**answer, "Body": Breaking(answer["Body"])}

    monkeypatch.setattr(bucket._client, "get_object", get_object)
    assert b"".join(bucket.stream("big")) == BIG
    assert asked[:3] == [None, "bytes=3145728-", "bytes=6291456-"]


@pytest.mark.slow
def test_a_connection_that_breaks_in_a_small_object_is_made_again(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    bucket = open_bucket("s3://preprod.datamining/small")
    assert isinstance(bucket, S3Bucket)
    assert bucket.replace("x", b"small", None)
    answers = []
    honest = bucket._client.get_object

    class Broken:
        def read(self, size: int) -> bytes:
            raise ResponseStreamingError(error="broken")

        def close(self) -> None:
            pass

    def get_object(**arguments: Any) -> Any:
        answer = honest(**arguments)
        answers.append(answer)
        return answer if len(answers) > 1 else {**answer, "Body": Broken()}

    monkeypatch.setattr(bucket._client, "get_object", get_object)
    held = bucket.read("x")
    assert held
    assert held.data == b"small"
    for answer in answers:
        answer["Body"].close()


@pytest.mark.fault("S4")
@pytest.mark.slow
def test_an_outage_is_waited_for_in_the_middle_of_a_file(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_bucket, "_WAIT", (0.0, 0.1))
    bucket = open_bucket("s3://preprod.datamining/outage")
    assert isinstance(bucket, S3Bucket)
    calls: list[str] = []

    def away(request: Any, **_: Any) -> None:
        calls.append(request.url)
        if 3 <= len(calls) < 15:  # longer than boto3 itself goes on
            raise EndpointConnectionError(endpoint_url=request.url)

    bucket._client.meta.events.register("before-send.s3", away)
    put(bucket, tmp_path, "big", BIG)
    assert b"".join(bucket.stream("big")) == BIG
    assert len([url for url in calls if "big?uploads" in url]) == 1  # the upload went on; it was not begun anew
    calls[:] = [""] * 3
    monkeypatch.setattr(s3_bucket, "_ATTEMPTS", 3)
    with pytest.raises(DepotError, match="outage/big cannot be used: Could not connect"):
        bucket.read("big")


@pytest.mark.fault("S4")
@pytest.mark.slow
def test_an_interrupted_upload_goes_on_where_it_stopped(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    bucket = open_bucket("s3://preprod.datamining/interrupted")
    assert isinstance(bucket, S3Bucket)
    monkeypatch.setattr(s3_bucket, "_PART", 5 * 1024 * 1024)
    monkeypatch.setattr(s3_bucket, "_PARTS_AT_ONCE", 1)
    honest, sent = bucket._client.upload_part, list[int]()

    def upload_part(**arguments: Any) -> Any:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(arguments["PartNumber"])
        return honest(**arguments)

    data = random.Random(1).randbytes(21 * 1024 * 1024)
    changed = b"!" + data[1:]  # only equal parts are kept
    with monkeypatch.context() as killed:
        killed.setattr(bucket._client, "upload_part", upload_part)
        with pytest.raises(KeyboardInterrupt):
            put(bucket, tmp_path, "x", data)
    assert sent == [1, 2]
    sent.clear()
    monkeypatch.setattr(
        bucket._client, "upload_part", lambda **more: (sent.append(more["PartNumber"]), honest(**more))[1]
    )
    put(bucket, tmp_path, "x", changed)
    assert sent == [1, 3, 4, 5]
    assert b"".join(bucket.stream("x")) == changed
    sent.clear()
    put(bucket, tmp_path, "x", data)
    assert sent == [1, 2, 3, 4, 5]
    assert b"".join(bucket.stream("x")) == data
