"""Servers to measure: ours, and the least that Flask can do, fixed bytes, under the same gunicorn configuration."""

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from flask import Flask, Response

from bench.process import ROOT, Running, running
from shared.errors import RunStopped

CONNECTIONS = 8
# Asks for one path after another, or posts one photo after another; what it saw goes to stdout as one line of JSON.
_WRK = """
local paths, photos, at = {}, {}, 0
function init(args)
  for line in io.lines(args[1]) do paths[#paths + 1] = line end
  for line in io.lines(args[2]) do
    local file = io.open(line, "rb")
    photos[#photos + 1] = file:read("*a")
    file:close()
  end
end
function request()
  at = at + 1
  local photo = photos[at % math.max(1, #photos) + 1]
  return wrk.format(photo and "POST" or "GET", paths[at % #paths + 1], nil, photo)
end
function done(summary, latency, requests)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "wrong": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, wrong, latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """Requests a second, and milliseconds."""

    rate: float
    p50: float
    p99: float


def served(
    data: Path,
    workers: int,
    until: str = "/healthz",
    photo: bytes | None = None,
    options: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> AbstractContextManager[Running]:
    """Run `make serve` over a data folder, from when it answers 200 there, and to a photo if one is given."""
    command = [sys.executable, "-m", "server", "--data", str(data), "--workers", str(workers), "--port", "{port}"]
    return running(command, lambda port: _answers(port, until, photo), options, log)


@contextmanager
def served_to_keys(data: Path, workers: int) -> Iterator[tuple[Running, str]]:
    """Run `make serve` with KEYS, and with a RATE that nobody reaches; yield a key that opens it, too."""
    with tempfile.TemporaryDirectory() as folder:
        keys = f"{folder}/keys.json"
        add = [sys.executable, "-m", "server", "keys", "add", "bench", "--keys", keys]
        key = subprocess.run(add, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        options = {"SIMILARITY_KEYS": keys, "SIMILARITY_RATE": "1000000000/hour"}
        with served(data, workers, options=options) as server:
            yield server, key


@contextmanager
def served_bytes(body: bytes, workers: int) -> Iterator[Running]:
    """Serve these bytes by the route."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body"
        path.write_bytes(body)
        command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "server" / "gunicorn.conf.py")]
        command += ["--workers", str(workers), "--bind", "127.0.0.1:{port}", f"bench.server:fixed({str(path)!r})"]
        with running(command, lambda port: _answers(port, "/fixed"), {"SIMILARITY_DATA": folder}) as server:
            yield server


def fixed(path: str) -> Flask:
    """The application for gunicorn: the file's bytes at `/fixed`."""
    app = Flask(__name__, static_folder=None)
    body = Path(path).read_bytes()

    @app.get("/fixed")
    def answer() -> Response:
        return Response(body, mimetype="application/json")

    return app


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection that is kept open."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        yield connection


def ask(connection: http.client.HTTPConnection, path: str, photo: bytes | None = None) -> tuple[int, bytes]:
    """Ask once; return status and body."""
    connection.request("POST" if photo else "GET", path, photo)
    answer = connection.getresponse()
    return answer.status, answer.read()


def products(connection: http.client.HTTPConnection, path: str, photo: bytes | None = None) -> list[str]:
    """The product ids of an answer. Raises `RunStopped` if there is none."""
    status, body = ask(connection, path, photo)
    if status != 200:
        raise RunStopped(f"The server answers {status} to {path}: {body[:200]!r}")
    return [result["product_id"] for result in json.loads(body)["results"]]


def load(port: int, paths: Sequence[str], seconds: int, photos: Sequence[Path] = (), key: str = "") -> Load:
    """Ask by eight connections of `wrk` for so long. Raises `RunStopped` if any answer is not 200."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{name}" for name in ("ask.lua", "paths", "photos")]
        for name, text in zip(names, (_WRK, "\n".join(paths), "\n".join(map(str, photos))), strict=True):
            Path(name).write_text(text)
        how = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", names[0]]
        how += ["-H", f"Authorization: Bearer {key}"] if key else []
        command = ["wrk", *how, f"http://127.0.0.1:{port}", "--", *names[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout.strip().rpartition("\n")[2])
    if seen["wrong"]:
        raise RunStopped(f"{seen['wrong']} of {seen['requests']} answers under load are errors.")
    return Load(1e6 * seen["requests"] / seen["microseconds"], seen["p50"] / 1000, seen["p99"] / 1000)


def _answers(port: int, path: str, photo: bytes | None = None) -> bool:
    try:
        with connected(port) as connection:
            return ask(connection, path, photo)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
