"""One embedding process for all workers: right answers from many threads, bounds, death and restart, nothing left."""

import contextlib
import json
import os
import signal
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import create_app
from server.asking import PHOTOS_AT_ONCE
from server.embedding import MOST_WAITING, Batches, EmbeddingServer
from server.reload import Snapshots
from server.remote import RemoteNetworks
from server.wire import Frame, Word, receive, send
from shared.embedders import load
from shared.embedders.colour_grid import ColourGrid
from shared.errors import Busy, NotReady
from shared.images import decode, square
from shared.snapshot import Snapshot
from shared.vectors import normalise
from tests.conftest import HOCKEY, drawn, serving, snapshot_of

SEARCH = "/v1/371/0341/search?k=5"
SIMILAR = "/v1/371/0341/products/p3/similar"
PHOTOS = [drawn(seed, (90, 90)) for seed in range(20)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pictures = np.stack([square(np.asarray(decode(drawn(seed))), 64) for seed in range(30)])
    snapshot_of(tmp_path, [f"p{n}" for n in range(30)], normalise(load("colour_grid").embed(pictures)))
    return tmp_path


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer, whatever the status."""
    request = urllib.request.Request(url, body, {"Content-Type": "image/jpeg", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def master(base: str) -> int:
    """The process id of the gunicorn master that serves there."""
    asked = f"--bind\0{base.removeprefix('http://')}".encode()
    pids = [pid for pid, line in commands() if asked in line]
    return next(pid for pid in pids if parent_of(pid) not in pids)


def commands() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(path.name), (path / "cmdline").read_bytes()


def embedding(base: str) -> tuple[int, Path] | None:
    """The process id and the socket of the embedding process of that server."""
    told = str(master(base)).encode()
    for pid, line in commands():
        words = line.split(b"\0")
        if b"server.embedding" in words and words[-2] == told:
            return pid, Path(os.fsdecode(words[-3]))
    return None


def running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def until(what: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_photos_from_many_threads_get_the_answers_of_one_process(data: Path) -> None:
    local = create_app(Snapshots(data)).test_client()
    wanted = [local.post(SEARCH, data=photo).data for photo in PHOTOS]
    with serving(data, workers=2) as base, ThreadPoolExecutor(12) as pool:
        found = pool.map(lambda photo: ask(base + SEARCH, photo), PHOTOS * 10)
        for number, (status, body, _) in enumerate(found):
            assert (status, body) == (200, wanted[number % len(PHOTOS)])
        told = str(master(base)).encode()
        assert sum(line.split(b"\0")[-2:-1] == [told] for _, line in commands() if b"server.embedding" in line) == 1
        for pid, _ in commands():
            with contextlib.suppress(OSError):
                if parent_of(pid) == master(base) and pid != (embedding(base) or (0,))[0]:
                    assert "tensorflow" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_embedding_process_may_be_killed_under_load(data: Path) -> None:
    with serving(data, workers=2) as base:
        before = embedding(base)
        assert before
        stop, photos, products = threading.Event(), list[int](), list[int]()

        def load(statuses: list[int], url: str, body: bytes | None) -> None:
            while not stop.is_set():
                statuses.append(ask(url, body)[0])

        asking = [
            *(threading.Thread(target=load, args=(photos, base + SEARCH, photo)) for photo in PHOTOS[:4]),
            threading.Thread(target=load, args=(products, base + SIMILAR, None)),
        ]
        for thread in asking:
            thread.start()
        until(lambda: photos.count(200) > 20)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: 503 in photos)
        killed = len(photos)
        until(lambda: photos[killed:].count(200) > 20, seconds=10)
        stop.set()
        for thread in asking:
            thread.join()
        assert set(photos) == {200, 503}
        assert set(products) == {200}
        after = embedding(base)
        assert after
        assert after[0] != before[0]
        assert after[1] == before[1]
        assert json.loads(ask(base + SEARCH, PHOTOS[7])[1])["results"][0]["product_id"] == "p7"


def test_beyond_the_bound_a_photo_is_sent_away_at_once_and_products_are_answered(data: Path) -> None:
    with serving(data) as base, ThreadPoolExecutor(40) as pool:
        found = embedding(base)
        assert found
        os.kill(found[0], signal.SIGSTOP)
        try:
            waiting = [pool.submit(ask, base + SEARCH, PHOTOS[0]) for _ in range(PHOTOS_AT_ONCE)]
            until(lambda: sockets_to(found[1]) >= PHOTOS_AT_ONCE)
            began = time.monotonic()
            status, body, headers = ask(base + SEARCH, PHOTOS[1])
            assert status == 503
            assert headers["Retry-After"]
            assert headers["Content-Type"] == "application/problem+json"
            assert json.loads(body)["title"] == "Busy"
            assert ask(base + SIMILAR)[0] == 200
            assert time.monotonic() - began < 1
        finally:
            os.kill(found[0], signal.SIGCONT)
        assert {future.result()[0] for future in waiting} == {200}


def sockets_to(address: Path) -> int:
    """How many connections wait or are open at that socket, beside the one that listens and the workers' own lines."""
    return Path("/proc/net/unix").read_text().count(str(address)) - 1


@pytest.mark.network
def test_a_snapshot_of_another_network_takes_over_when_that_is_loaded(data: Path) -> None:
    temporary = data / "temporary"
    temporary.mkdir()
    with serving(data, workers=2, TMPDIR=str(temporary)) as base:
        until(lambda: (data / "serve.log").read_text().count("serves snapshot") == 2)  # in both workers
        time.sleep(1)  # until both know that the network is loaded
        before, answers = Snapshot.current(data, HOCKEY).id, list[tuple[int, str]]()
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                status, body, _ = ask(base + SEARCH, PHOTOS[0])
                answers.append((status, json.loads(body).get("snapshot", "")))
                answers.append((ask(f"{base}/readyz")[0], ""))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        spec = load("efficientnet_lite0").spec
        vectors = normalise(np.random.default_rng(0).normal(size=(5, spec.plain_dimension)).astype(np.float32))
        after = snapshot_of(data, [f"p{n}" for n in range(5)], vectors, model="efficientnet_lite0").id
        until(lambda: (200, after) in answers[-4:], seconds=60)
        stop.set()
        asking.join()
        assert {status for status, _ in answers} == {200}
        assert {snapshot for _, snapshot in answers} == {before, after, ""}
    assert not list(temporary.iterdir())


def test_nothing_is_left_when_the_server_stops_or_its_master_is_killed(data: Path) -> None:
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with serving(data, workers=2) as base:
            found = embedding(base)
            assert found
            pid, address = found
            assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(address.stat().st_mode) == 0o600
            os.kill(master(base), how)
            until(lambda pid=pid: not running(pid))
            until(lambda address=address: not address.parent.exists())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddingServer]:
    """The embedding process's server, in this process."""
    with EmbeddingServer(tmp_path / "socket") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def ready(server: EmbeddingServer, snapshot: Snapshot) -> RemoteNetworks:
    networks = RemoteNetworks(Path(str(server.server_address)))

    def loaded() -> bool:
        networks.need([snapshot])
        return networks.state(snapshot) == "ready"

    until(loaded)
    return networks


def test_what_waits_together_is_embedded_together_and_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, sizes = threading.Event(), threading.Event(), list[int]()
    plain = ColourGrid.embed

    def slow(self: ColourGrid, images: Any) -> Any:
        sizes.append(len(images))
        begun.set()
        assert go.wait(20)
        return plain(self, images)

    monkeypatch.setattr(ColourGrid, "embed", slow)
    batches, network = Batches(), ColourGrid()
    photos = np.random.default_rng(0).integers(0, 256, (MOST_WAITING + 1, 4, 64, 64, 3), np.uint8)
    with ThreadPoolExecutor(MOST_WAITING + 1) as pool:
        answers: list[Future[Any]] = [pool.submit(batches.embed, network, photos[0])]
        assert begun.wait(10)
        answers += [pool.submit(batches.embed, network, photo) for photo in photos[1:]]
        until(lambda: len(batches._waiting) == MOST_WAITING)
        with pytest.raises(Busy, match="32 photos wait"):
            batches.embed(network, photos[0])
        go.set()
        for photo, answer in zip(photos, answers, strict=True):
            assert (answer.result() == plain(network, photo)).all()
    assert sizes == [4, *[16] * 8]


def test_a_photo_that_waited_too_long_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.embedding._LONGEST_WAIT", 0)
    with pytest.raises(Busy, match="too long"):
        Batches().embed(ColourGrid(), np.zeros((4, 64, 64, 3), np.uint8))


def test_networks_come_and_go_with_the_snapshots_that_need_them(
    data: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Snapshot.current(data, HOCKEY)
    networks = ready(server, one)
    embedder = networks.embedder(one)
    other = replace(ColourGrid.spec, fingerprint="colour-grid-2")
    monkeypatch.setattr(ColourGrid, "spec", other)
    two = snapshot_of(data, ["p", "q"], one.store.vectors(0, 2))
    networks.need([two])
    assert embedder.embed(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 49)  # a worker may still answer from it
    server._needed = {mark: (folder, 0.0) for mark, (folder, _) in server._needed.items() if mark == "colour-grid-1"}
    ready(server, two)
    assert set(server.networks.states()) == {"colour-grid-2"}
    with pytest.raises(NotReady):
        embedder.embed(np.zeros((1, 64, 64, 3), np.uint8))


def test_a_network_that_is_not_the_snapshots_is_refused(
    data: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Snapshot.current(data, HOCKEY)
    other = replace(ColourGrid.spec, fingerprint="colour-grid-2")
    monkeypatch.setattr(ColourGrid, "spec", other)
    networks = RemoteNetworks(Path(str(server.server_address)))
    for _ in range(2):
        networks.need([snapshot])
        time.sleep(0.3)
    with pytest.raises(NotReady, match="this host has"):
        networks.embedder(snapshot)


def test_a_network_that_fails_is_a_fault_of_ours_and_the_next_photo_is_answered(
    data: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Snapshot.current(data, HOCKEY)
    client = create_app(Snapshots(data, networks=ready(server, snapshot)))
    client.test_client().post(SEARCH, data=PHOTOS[0])
    with monkeypatch.context() as broken:
        broken.setattr(ColourGrid, "embed", lambda self, images: 1 / 0)
        assert client.test_client().post(SEARCH, data=PHOTOS[0]).status_code == 500
    assert client.test_client().post(SEARCH, data=PHOTOS[0]).status_code == 200


@pytest.mark.parametrize("said", [b"X", b"GET / HTTP/1.1\r\n\r\n", b"E\xff\xff\xff\xff\xff\xff", bytes(7), b"E\0\0"])
def test_what_nobody_understands_ends_its_connection_only(data: Path, server: EmbeddingServer, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(server.server_address))
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            assert stranger.recv(1) == b""
    snapshot = Snapshot.current(data, HOCKEY)
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(str(server.server_address))
        ready(server, snapshot)
        send(worker, Frame(Word.EMBED, snapshot.spec.fingerprint, b"not whole images"))
        answer = receive(worker)
        assert answer
        assert answer.word is Word.FAILED
