"""Fixtures of all tests; what else they share is in `tests.support`."""

import socket
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import flask_openapi3.openapi
import flask_openapi3.utils
import pytest

from shared.storage.bucket import Bucket
from shared.storage.buckets import open_bucket
from tests.support.image_server import ImageServer
from tests.support.s3 import s3_server


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that would connect to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        assert str(host).startswith("127.") or host in ("localhost", "::1"), f"a test connects to {host}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def _schemas_once() -> Iterator[None]:
    """Make the schema of each model of the API once: there are hundreds of applications, and it takes most of one."""
    schema = cache(flask_openapi3.utils.get_model_schema)
    with pytest.MonkeyPatch.context() as patch:
        for module in (flask_openapi3.utils, flask_openapi3.openapi):
            patch.setattr(module, "get_model_schema", lambda *which, **mode: deepcopy(schema(*which, **mode)))
        yield


@pytest.fixture
def cdn() -> Iterator[ImageServer]:
    server = ImageServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of converted networks, for all tests: a conversion takes ten seconds."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server; yields the environment that reaches it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.environment


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
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
