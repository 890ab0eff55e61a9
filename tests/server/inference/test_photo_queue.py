"""Photos in all workers of a server: the same answers from many threads, turns, bounds, deaths, nothing left."""

import contextlib
import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.app import create_app
from server.config import ServerConfig
from server.inference import networks as network_module
from server.inference import photo_queue as turns_module
from server.inference.networks import Networks
from server.inference.photo_queue import PLACES, PhotoQueue
from server.inference.photo_state import LOADING, OFF, READY, PhotoState, failed
from server.serving.snapshots import Snapshots
from server.serving.workers import Processes
from shared.embedding.families.colour_grid import ColourGrid
from shared.embedding.registry import load
from shared.errors import Busy, NotReady
from shared.snapshot.reader import Snapshot
from shared.vectors.unit import normalise
from tests.support.answers import ask
from tests.support.pictures import drawn, vectors
from tests.support.processes import master, running, workers
from tests.support.project import ROOT
from tests.support.server import serving, until
from tests.support.snapshots import HOCKEY, snapshot_of

SEARCH = "/v1/371/0341/search?k=5"
SIMILAR = "/v1/371/0341/products/p3/similar"
PHOTOS = [drawn(seed, (90, 90)) for seed in range(20)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(30)], vectors(*range(30)))
    return tmp_path


@pytest.mark.slow
def test_photos_from_many_threads_get_the_answers_of_one_process(data: Path) -> None:
    local = create_app(Snapshots(data)).test_client()
    wanted = [local.post(SEARCH, data=photo).data for photo in PHOTOS]
    with serving(data, workers=2) as base, ThreadPoolExecutor(12) as pool:
        found = pool.map(lambda photo: ask(base + SEARCH, photo), PHOTOS * 10)
        for number, (status, body, _) in enumerate(found):
            assert (status, body) == (200, wanted[number % len(PHOTOS)])
        for pid in (master(base), *workers(base)):
            assert "libtensorflow" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.fault("R3")
@pytest.mark.slow
def test_a_worker_may_be_killed_under_load(data: Path) -> None:
    with serving(data, workers=2) as base:
        before, answered = workers(base), 0

        def load(number: int) -> int | None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # its own connection may be the lost one
                return ask(base + SEARCH, PHOTOS[number % 20])[0]
            return None

        with ThreadPoolExecutor(4) as pool:
            first = list(pool.map(load, range(40)))
            os.kill(before[0], signal.SIGKILL)
            under = list(pool.map(load, range(80)))
            until(lambda: len(workers(base)) == 2 and before[0] not in workers(base))
            until(lambda: ask(f"{base}/readyz")[0] == 200)
            answered = sum(status == 200 for status in under)
            assert set(first) == {200}
            assert {*under} <= {200, 503, None}
            assert answered > 40
            assert set(pool.map(load, range(40))) == {200}
        assert json.loads(ask(base + SEARCH, PHOTOS[7])[1])["results"][0]["product_id"] == "p7"


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """The line of all workers."""
    path = tmp_path / "line"
    path.write_bytes(bytes(8 * PLACES))
    return path


HOLD = """
import sys, time
from pathlib import Path
from server.inference.photo_queue import PLACES, PhotoQueue
turns = PhotoQueue(Path(sys.argv[1]))
with turns.under_way(), turns.embedding():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_worker(line: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which embeds a photo meanwhile."""
    command = [sys.executable, "-c", HOLD, str(line)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.fault("R5")
@pytest.mark.slow
def test_beyond_the_bound_a_photo_is_sent_away_at_once_and_products_are_answered(line: Path, data: Path) -> None:
    turns = PhotoQueue(line)
    app = create_app(Snapshots(data, networks=Networks(turns=turns)), turns=turns)
    with ThreadPoolExecutor(40) as pool, another_worker(line) as process:
        waiting = [pool.submit(app.test_client().post, SEARCH, data=PHOTOS[0]) for _ in range(20)]
        until(lambda: len(turns._mine) == 20)
        refused = app.test_client().post(SEARCH, data=PHOTOS[1])
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert refused.json["title"] == "Busy"
        assert app.test_client().get(SIMILAR).status_code == 200
        assert not any(future.done() for future in waiting)
        process.kill()  # whoever dies leaves the line
        assert {future.result().status_code for future in waiting} == {200}


@pytest.mark.slow
def test_all_workers_together_have_so_many_photos_under_way(line: Path) -> None:
    """Two workers' own bounds add up to more."""
    with another_worker(line), contextlib.ExitStack() as held:
        one, taken = PhotoQueue(line), 1  # the other process has one
        with contextlib.suppress(Busy):
            while taken <= PLACES:
                held.enter_context(one.under_way())
                taken += 1
        assert taken == 21
    assert PhotoQueue(line)._taken() is not None


@pytest.mark.slow
def test_a_photo_that_waited_too_long_is_sent_away(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_LONGEST_WAIT", 0.05)
    turns = PhotoQueue(line)
    with another_worker(line), pytest.raises(Busy, match="waited"), turns.under_way(), turns.embedding():
        pass
    with turns.under_way(), turns.embedding():  # it left the line
        pass


def test_those_that_wait_longest_are_embedded_and_no_more_than_so_many_at_once(line: Path) -> None:
    turns, now, most, order = PhotoQueue(line, at_once=2), list[int](), list[int](), list[int]()
    inside = threading.Lock()

    def embed(number: int) -> None:
        with turns.under_way(wait=True), turns.embedding():
            with inside:
                order.append(number)
                now.append(number)
                most.append(len(now))
            time.sleep(0.02)
            with inside:
                now.remove(number)

    with ThreadPoolExecutor(8) as pool:
        for number in range(30):
            pool.submit(embed, number)
            time.sleep(0.002)
    assert max(most) == 2
    assert max(abs(number - place) for place, number in enumerate(order)) <= 2


def test_a_server_is_ready_when_all_of_its_workers_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Snapshots(data), {"371/0341": READY}
    until(lambda: here.photo_states() == there)
    processes = Processes(tmp_path / "shared")
    (tmp_path / "shared" / "workers").mkdir(parents=True)
    client = create_app(here, ServerConfig(data, processes=processes.folder)).test_client()

    def tell(pid: int, serving: dict[str, PhotoState]) -> None:
        monkeypatch.setattr(os, "getpid", lambda: pid)
        processes.tell(serving)

    def refused() -> bool:
        answer = client.get("/readyz")
        return answer.status_code == 503 and "worker" in answer.json["detail"]

    tell(1, there)
    assert client.get("/readyz").status_code == 200
    processes.expect(2)
    assert refused()  # the second is starting
    for behind in ({}, {"371/0341": LOADING}, {**there, "372/0341": READY}):
        tell(2, behind)
        assert refused()
    tell(2, there)
    assert client.get("/readyz").status_code == 200
    processes.ended(2)  # it was killed, and another takes its place
    assert refused()
    processes.expect(1)  # after SIGTTOU
    assert client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_a_snapshot_of_another_network_takes_over_when_that_is_loaded(data: Path) -> None:
    temporary = data / "temporary"
    temporary.mkdir()
    with serving(data, workers=2, TMPDIR=str(temporary)) as base:
        until(lambda: (data / "serve.log").read_text().count("serves snapshot") == 2)  # in both workers
        before, answers = Snapshot.current(data, HOCKEY).id, list[tuple[int, str]]()
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                status, body, _ = ask(base + SEARCH, PHOTOS[0])
                answers.append((status, json.loads(body).get("snapshot", "")))
                status, body, _ = ask(f"{base}/readyz")
                answers.append((status, "" if status == 200 else body.decode()))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        spec = load("efficientnet_lite0").spec
        vectors = normalise(np.random.default_rng(0).normal(size=(5, spec.plain_dimension)).astype(np.float32))
        after = snapshot_of(data, [f"p{n}" for n in range(5)], vectors, model="efficientnet_lite0").id
        until(lambda: (200, after) in answers[-4:], seconds=60)
        stop.set()
        asking.join()
        assert {*answers} == {(200, before), (200, after), (200, "")}
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_server_stops_or_its_master_is_killed(
    data: Path, tmp_path: Path, how: signal.Signals
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving(data, workers=2, TMPDIR=str(temporary)) as base:
        ask(base + SEARCH, PHOTOS[0])
        pids = workers(base)
        (folder,) = temporary.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        os.kill(master(base), how)
        until(lambda: not any(map(running, pids)))
    until(lambda: not [*temporary.iterdir()])


@pytest.mark.parametrize("state", [READY, LOADING, OFF, failed("The weights of Éclair cannot be had."), failed("")])
def test_the_state_of_photo_search_is_the_same_after_it_was_told(tmp_path: Path, state: PhotoState) -> None:
    processes = Processes(tmp_path)
    (tmp_path / "workers").mkdir()
    processes.tell({"371/0341": state})
    assert processes.told() == {os.getpid(): {"371/0341": state}}
    assert json.loads((tmp_path / "workers" / str(os.getpid())).read_bytes()) == {"371/0341": str(state)}
    assert state.serves == (str(state) in ("ready", "off"))


def ready(snapshot: Snapshot) -> Networks:
    networks = Networks()
    networks.need([snapshot])
    until(lambda: networks.state(snapshot) == READY)
    return networks


def test_networks_come_and_go_with_the_snapshots_that_need_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Snapshot.current(data, HOCKEY)
    networks = ready(one)
    embedder = networks.embedder(one)
    monkeypatch.setattr(ColourGrid, "spec", replace(ColourGrid.spec, fingerprint="colour-grid-2"))
    two = snapshot_of(data, ["p", "q"], one.store.vectors(0, 2))
    networks.need([two])
    assert embedder.embed(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 49)  # an answer may still come from it
    until(lambda: networks.state(two) == READY)
    assert networks.state(one) == READY  # an answer may have begun with it
    monkeypatch.setattr(network_module, "_KEPT_SECONDS", -1)
    networks.need([one, two])
    networks.need([two])
    with pytest.raises(NotReady):
        networks.embedder(one)


def test_a_network_that_is_not_the_snapshots_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot.current(data, HOCKEY)
    monkeypatch.setattr(ColourGrid, "spec", replace(ColourGrid.spec, fingerprint="colour-grid-2"))
    networks = Networks()
    networks.need([snapshot])
    with pytest.raises(NotReady, match="this host has"):
        networks.embedder(snapshot)


def test_a_network_that_fails_is_a_fault_of_ours_and_the_next_photo_is_answered(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(Snapshots(data, networks=ready(Snapshot.current(data, HOCKEY)))).test_client()
    with monkeypatch.context() as broken:
        broken.setattr(ColourGrid, "embed", lambda self, images: 1 / 0)
        assert client.post(SEARCH, data=PHOTOS[0]).status_code == 500
    assert client.post(SEARCH, data=PHOTOS[0]).status_code == 200
