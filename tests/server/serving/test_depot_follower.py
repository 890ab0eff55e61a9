"""Servers that follow a depot: one process pulls, every worker swaps, and what is bad is refused with a reason."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.app import create_app
from server.config import ServerConfig
from server.serving import depot_follower
from server.serving.depot_follower import Follower, coming, looked_at, problems
from server.serving.reload_signal import ReloadSignal
from server.serving.snapshots import Snapshots
from shared.depot import pull as pull_module
from shared.depot.publish import publish
from shared.depot.pull import pull
from shared.errors import DepotError
from shared.partition import Partition
from shared.snapshot import directory
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.reader import Snapshot
from shared.storage.bucket import Bucket
from tests.support.audit import entries
from tests.support.pictures import drawn
from tests.support.project import ROOT, often
from tests.support.server import free_port, until
from tests.support.snapshots import HOCKEY, hockey, hockey_in, snapshot_of, unit

NAME = str(HOCKEY)


def published(tmp_path: Path, bucket: Bucket, seed: int, key: str | None = None) -> str:
    vectors = unit(*[[seed + 1.0, n, 1] for n in range(20)])
    snapshot_of(tmp_path / "here", [f"p{n}" for n in range(20)], vectors)
    return publish(hockey(tmp_path / "here"), bucket, key=key)


@contextmanager
def server(
    data: Path, bucket: Bucket, workers: int = 2, log: Path | None = None, **secrets: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real gunicorn that follows a depot; yields its base URL as soon as it is alive."""
    data.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "server", "--data", str(data), "--port", str(port), "--workers", str(workers)]
    with ((log or data) / "serve.log").open("ab") as file:
        process = subprocess.Popen(
            [*command, "--depot", bucket.uri], cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **secrets}
        )
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: ask(f"{base}/healthz")[0] == 200, 30)
        yield base, process
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def serves(base: str) -> str:
    """The snapshot that answers now."""
    return str(ask(f"{base}/v1/371/0341/products/p1/similar")[1].get("snapshot", ""))


class Load:
    """Asks several servers 200 times a second in all, one in ten times with a photo."""

    def __init__(self, *bases: str) -> None:
        self.asked, self.failed = 0, list[object]()
        self.answers: dict[tuple[str, str], set[bytes]] = {}
        self._stop = threading.Event()
        # Several threads for each server: an answer that takes its time does not hold up the next question.
        threads_each, self._pause = 5, len(bases) * 5 / 200
        self._threads = [threading.Thread(target=self._ask, args=(base,)) for base in bases * threads_each]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, base: str) -> None:
        photo, number, due = drawn(3), 0, time.monotonic()
        connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=20)
        while not self._stop.is_set():
            number += 1
            method, question = ("POST", "search") if number % 10 == 0 else ("GET", "products/p1/similar")
            try:
                connection.request(method, f"/v1/371/0341/{question}", photo if method == "POST" else None)
                answer = connection.getresponse()
                body, snapshot = answer.read(), answer.headers.get("ETag", "").strip('"')
                if answer.status != 200 or json.loads(body)["snapshot"] != snapshot:
                    self.failed.append((answer.status, body))
                self.answers.setdefault((snapshot, question), set()).add(body)
            except OSError as error:
                self.failed.append(error)
                connection.close()
            self.asked += 1
            due += self._pause
            time.sleep(max(0, due - time.monotonic()))
        connection.close()


@pytest.mark.fault("R1")
@pytest.mark.slow
def test_two_hosts_follow_one_depot_without_a_failed_request(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    hosts = [tmp_path / "a", tmp_path / "b"]

    def index_and_publish(seed: int) -> str:
        for n in range(30):
            (tmp_path / "pictures" / f"p{n}.jpg").write_bytes(drawn(100 * seed + n))
        where = ["--department", "371", "--domain", "0341", "--data", str(tmp_path / "here")]
        plain = ["--model", "colour_grid", "--metric", "plain"]
        for command in (
            ["index", "--force", "--catalog", str(tmp_path / "pictures"), *plain],
            ["publish"],
        ):
            options = [*where, "--depot", bucket.uri] if command == ["publish"] else where
            subprocess.run([sys.executable, "-m", "indexer", *command, *options], cwd=ROOT, check=True)
        return hockey(tmp_path / "here").current() or ""

    def all_serve(wanted: str) -> bool:
        return {serves(base) for base in (a, b) for _ in range(6)} == {wanted}

    with server(hosts[0], bucket) as (a, _), server(hosts[1], bucket, workers=1) as (b, _):
        status, problem = ask(f"{a}/readyz")
        assert (status, problem["title"]) == (503, "Not ready")
        ids, slowest = [index_and_publish(0)], 0.0
        until(lambda: all_serve(ids[0]) and {ask(f"{base}/readyz")[0] for base in (a, b)} == {200}, 20)
        began = time.monotonic()
        with Load(a, b) as load:
            for seed in range(1, often(20, 2) + 1):
                ids.append(index_and_publish(seed))
                published_at = time.monotonic()
                until(lambda: all_serve(ids[-1]), 5)
                slowest = max(slowest, time.monotonic() - published_at)
        seconds = time.monotonic() - began
    print(f"{load.asked} requests, {load.asked / seconds:.0f} a second; the slowest switch took {slowest:.1f} s")
    assert not load.failed
    assert {snapshot for snapshot, _ in load.answers} <= set(ids)
    assert len(load.answers) > len(ids)
    for question, bodies in load.answers.items():
        assert len(bodies) == 1, question  # each of one snapshot: the next one has other scores
    assert len({bodies.pop() for bodies in load.answers.values()}) == len(load.answers)
    for host in hosts:
        log = (host / "serve.log").read_text()
        assert log.count("was pulled") == len(ids)  # by one of the workers


@pytest.mark.slow
def test_whoever_follows_may_die(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 0)
    with server(tmp_path / "a", bucket) as (base, process):
        until(lambda: ask(f"{base}/readyz")[0] == 200, 15)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        two = published(tmp_path, bucket, 1)
        until(lambda: {serves(base) for _ in range(6)} == {two}, 10)


@pytest.mark.slow
def test_reload_by_key_and_by_signal(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 0, "that signs")
    secrets = {"SIMILARITY_ADMIN_KEY": "key é", "SIMILARITY_SIGNING_KEY": "that signs"}
    with server(tmp_path / "a", bucket, **secrets) as (base, process):
        until(lambda: ask(f"{base}/readyz")[0] == 200, 15)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        published(tmp_path, bucket, 1)  # not signed
        until(lambda: "is not signed" in str(ask(f"{base}/readyz")), 5)
        two = published(tmp_path, bucket, 1, "that signs")
        assert ask(f"{base}/admin/reload", "POST")[0] == 401
        ring(base, "key é")
        until(lambda: {serves(base) for _ in range(12)} == {two}, 5)  # in every worker
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert serves(base) == two
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == workers
    log = (tmp_path / "a" / "serve.log").read_text()
    assert "key é" not in log


def ring(base: str, key: str) -> None:
    assert ask(f"{base}/admin/reload", "POST", Authorization=f"Bearer {key}".encode().decode("latin-1")) == (
        202,
        {"status": "looking"},
    )


def test_the_admin_key(tmp_path: Path) -> None:
    reload_signal = ReloadSignal(tmp_path)
    app = create_app(Snapshots(tmp_path))
    assert app.test_client().post("/admin/reload").status_code == 404
    client = create_app(Snapshots(tmp_path), ServerConfig(tmp_path, admin_key="secret")).test_client()
    for wrong in ("", "secret", "Bearer", "Bearer ", "Bearer secrets", "Bearer é", "Basic secret", "x" * 9000):
        answer = client.post("/admin/reload", headers={"Authorization": wrong})
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), wrong
    assert client.post("/admin/reload").status_code == 401
    assert not reload_signal.wait(0)
    assert client.get("/admin/reload", headers={"Authorization": "Bearer secret"}).status_code == 405
    assert client.post("/admin/reload", headers={"Authorization": "Bearer secret"}).status_code == 202
    assert reload_signal.wait(0)
    assert not reload_signal.wait(0)


def test_a_doorbell_wakes_every_waiter(tmp_path: Path) -> None:
    waiters = [ReloadSignal(tmp_path / "new") for _ in range(3)]
    heard: list[bool] = []
    threads = [threading.Thread(target=lambda w=w: heard.append(w.wait(20))) for w in waiters]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    ReloadSignal(tmp_path / "new").ring()
    for thread in threads:
        thread.join()
    assert heard == [True] * 3


def test_a_bad_snapshot_is_refused_and_the_old_one_goes_on(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "a"
    follower = Follower(data, bucket)
    one = published(tmp_path, bucket, 0)
    follower.look()
    snapshots = Snapshots(data, problems=lambda: problems(data))
    assert snapshots.get(NAME).id == one
    two = published(tmp_path, bucket, 1)
    damaged = {entry.key for entry in bucket.entries("objects/") if entry.bytes > 200}
    whole = {key: b"".join(bucket.stream(key)) for key in damaged}
    for key in damaged:
        put(bucket, tmp_path, key, bytes(len(whole[key])))
    for _ in range(3):
        follower.look()
        snapshots.refresh()
    assert snapshots.get(NAME).id == one
    assert "damaged" in snapshots.refused[NAME]
    assert caplog.text.count("is not followed") == 1
    for key, content in whole.items():
        put(bucket, tmp_path, key, content)
    follower.look()
    assert hockey(data).current() == one  # it is not fetched again at every look
    follower.look(again=True)
    snapshots.refresh()
    assert snapshots.get(NAME).id == two
    assert not snapshots.refused
    told = [(entry["action"], entry["what"]["snapshot"], entry["outcome"][:7]) for entry in entries(data)]
    assert told == [("follow", one, "done"), ("follow", None, "refused"), ("follow", two, "done")]


def put(bucket: Bucket, folder: Path, key: str, data: bytes) -> None:
    (folder / "source").write_bytes(data)
    bucket.upload(folder / "source", key, lambda _: None)


@pytest.mark.fault("S9")
def test_a_bad_snapshot_that_is_the_only_one(bucket: Bucket, tmp_path: Path) -> None:
    published(tmp_path, bucket, 0)
    (tmp_path / "a" / "snapshots").mkdir(parents=True)
    follower = Follower(tmp_path / "a", bucket, key="secret")
    follower.look()
    client = create_app(Snapshots(tmp_path / "a", problems=lambda: problems(tmp_path / "a"))).test_client()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert f"{NAME}: The depot's LATEST" in answer.get_json()["detail"]
    assert "is not signed" in answer.get_json()["detail"]


def test_a_depot_that_is_away_costs_nothing_but_news(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(prefix: str) -> Iterator[Any]:
        raise DepotError("The depot is away.")

    one = published(tmp_path, bucket, 0)
    follower = Follower(tmp_path / "a", bucket)
    follower.look()
    with monkeypatch.context() as broken:
        broken.setattr(bucket, "entries", away)
        follower.look()
        assert problems(tmp_path / "a") == {"depot": "The depot is away."}
    follower.look()
    assert problems(tmp_path / "a") == {}
    two = published(tmp_path, bucket, 1)
    with monkeypatch.context() as broken:
        broken.setattr(bucket, "stream", lambda key, start=0: away(key))
        follower.look()
    assert hockey(tmp_path / "a").current() == one
    assert problems(tmp_path / "a") == {NAME: "The depot is away."}
    follower.look()  # is asked again at once
    assert hockey(tmp_path / "a").current() == two
    assert problems(tmp_path / "a") == {}


def test_who_follows_next_knows_what_is_over(bucket: Bucket, tmp_path: Path) -> None:
    data = tmp_path / "a"
    (data / "snapshots").mkdir(parents=True)
    before = {"depot": "The depot is away.", "9/9": "It left the depot.", NAME: "Another key."}
    (data / "snapshots" / ".follower.json").write_text(json.dumps({"problems": before, "coming": ["9/9"]}))
    published(tmp_path, bucket, 0)
    began = time.time()
    Follower(data, bucket).look()
    assert (problems(data), coming(data)) == ({}, [])
    assert looked_at(data) >= began - 0.1


def test_a_new_host_is_ready_when_it_has_everything(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, data = Partition("1", "2"), tmp_path / "a"
    snapshot_of(tmp_path / "here", ["a", "b"], unit([1, 0], [0, 1]), other)
    publish(PartitionFolder(tmp_path / "here", other), bucket)
    published(tmp_path, bucket, 0)
    pull(PartitionFolder(data, other), bucket)
    snapshots = Snapshots(data, photos=False)
    client = create_app(snapshots, ServerConfig(data, depot=bucket.uri)).test_client()
    assert client.get("/readyz").status_code == 200  # nobody has looked yet: better some than none
    answers = []

    def watched(*arguments: Any, **more: Any) -> str:
        answers.append(client.get("/readyz"))
        return pull(*arguments, **more)

    monkeypatch.setattr(depot_follower, "pull", watched)
    Follower(data, bucket).look()
    snapshots.refresh()
    assert {answer.status_code for answer in answers} == {503}
    assert NAME in answers[0].get_json()["detail"]
    assert client.get("/readyz").status_code == 200
    assert "similarity_depot_looked_timestamp_seconds 1" in client.get("/metrics").text


def test_a_disk_that_was_full_is_tried_again(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "a"
    one = published(tmp_path, bucket, 0)
    follower = Follower(data, bucket)
    follower.look()
    two = published(tmp_path, bucket, 1)
    with monkeypatch.context() as full:
        for module in (depot_follower, directory):
            full.setattr(module, "replace_atomically", no_space)
        full.setattr(pull_module, "_sync", no_space)
        follower.look()
    assert hockey(data).current() == one
    follower.look()
    assert "No space" in problems(data)[NAME]  # told as soon as there is room for it
    follower.look(again=True)
    assert hockey(data).current() == two
    assert problems(data) == {}


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_nobody_expected_is_told_and_costs_no_other_partition(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Partition("1", "2")
    snapshot_of(tmp_path / "here", ["a", "b"], unit([1, 0], [0, 1]), other)
    publish(PartitionFolder(tmp_path / "here", other), bucket)
    one = published(tmp_path, bucket, 0)

    def failing(here: PartitionFolder, *rest: Any, **more: Any) -> str:
        if here.partition == other:
            raise TypeError("odd")
        return pull(here, *rest, **more)

    monkeypatch.setattr(depot_follower, "pull", failing)
    Follower(tmp_path / "a", bucket).look()
    assert hockey(tmp_path / "a").current() == one
    assert problems(tmp_path / "a") == {"1/2": "Pulling it failed (TypeError)."}
    assert "TypeError: odd" in caplog.text


@pytest.mark.fault("O2")
@pytest.mark.slow
def test_a_server_goes_on_where_its_disk_can_only_be_read(bucket: Bucket, small_disk: Path, tmp_path: Path) -> None:
    data = small_disk / "a"
    one = published(tmp_path, bucket, 0)
    pull(hockey(data), bucket)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with server(data, bucket, workers=1, log=tmp_path) as (base, process):
        until(lambda: ask(f"{base}/readyz")[0] == 200, 15)
        process.send_signal(signal.SIGHUP)
        log = tmp_path / "serve.log"
        until(lambda: log.read_text().count("Read-only file system") == 2)  # of the signal, of who would follow
        assert process.poll() is None
        assert serves(base) == one
    assert log.read_text().count("Read-only file system") == 2


def test_a_host_that_went_back_stays_there_until_something_new_is_published(bucket: Bucket, tmp_path: Path) -> None:
    data = tmp_path / "a"
    one = published(tmp_path, bucket, 0)
    Follower(data, bucket).look()
    published(tmp_path, bucket, 1)
    follower = Follower(data, bucket)
    follower.look()
    assert hockey(data).go_back() == one
    follower.look()
    Follower(data, bucket).look()  # after a restart
    assert hockey(data).current() == one
    three = published(tmp_path, bucket, 2)
    follower.look()
    assert hockey(data).current() == three
    assert hockey_in(bucket).go_back(one) == one
    follower.look()
    assert hockey(data).current() == one


@pytest.mark.slow
def test_going_back_on_a_host_shows_in_the_next_answer(bucket: Bucket, tmp_path: Path) -> None:
    data, ids = tmp_path / "a", list[str]()
    for seed in range(2):
        ids.append(published(tmp_path, bucket, seed))
        pull(hockey(data), bucket)
    command = [sys.executable, "-m", "indexer", "rollback", "--department", "371", "--domain", "0341"]
    with server(data, bucket) as (base, _):
        until(lambda: {serves(base) for _ in range(12)} == {ids[1]}, 20)
        for turn in range(often(20, 3)):
            subprocess.run([*command, "--data", str(data)], cwd=ROOT, check=True)
            assert {serves(base) for _ in range(12)} == {ids[turn % 2]}  # in every worker


def test_a_host_whose_snapshot_was_damaged_is_mended_at_the_start(bucket: Bucket, tmp_path: Path) -> None:
    one = published(tmp_path, bucket, 0)
    pull(hockey(tmp_path / "a"), bucket)
    (hockey(tmp_path / "a").snapshot(one) / "index.faiss").unlink()
    Follower(tmp_path / "a", bucket).look()
    assert Snapshot.current(tmp_path / "a", HOCKEY).id == one
    (hockey(tmp_path / "a").path / "CURRENT").write_text("20990101T000000Z-0123456789abcdef")
    Follower(tmp_path / "a", bucket).look()
    assert Snapshot.current(tmp_path / "a", HOCKEY).id == one


@pytest.mark.fault("O1")
def test_the_servers_options_reach_its_processes_and_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = ServerConfig(tmp_path, depot="file:///x", keep=3, signing_key="s1", admin_key="s2")
    for name, value in config.environment().items():
        monkeypatch.setenv(name, value)
    assert ServerConfig.from_environment() == config
    assert "s1" not in repr(config)
    assert "s2" not in repr(config)
