"""Load over HTTP, by `wrk`."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import RunStopped

_CONNECTIONS = 8
# Asks for one path after another; what it saw goes to stdout as one line of JSON.
_SCRIPT = """
local paths, at, photo = {}, 0, nil
function init(args)
  for line in io.lines(args[1]) do paths[#paths + 1] = line end
  if args[2] then
    local file = io.open(args[2], "rb")
    photo = file:read("*a")
    file:close()
  end
end
function request()
  at = at % #paths + 1
  return wrk.format(photo and "POST" or "GET", paths[at], nil, photo)
end
function done(summary, latency, requests)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "wrong": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, wrong, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, and milliseconds."""

    rate: float
    p50: float
    p99: float


def missing() -> str:
    """Why there can be no load; "" where there can."""
    return "" if shutil.which("wrk") else "wrk is not installed (apt-get install wrk)"


def load(port: int, paths: Sequence[str], seconds: int, photo: Path | None = None) -> Load:
    """Ask by eight connections for so long. Raises `RunStopped` where any answer is not 200."""
    with tempfile.TemporaryDirectory() as folder:
        script, asked = Path(folder) / "ask.lua", Path(folder) / "paths"
        script.write_text(_SCRIPT)
        asked.write_text("\n".join(paths))
        how = ["-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
        command = ["wrk", *how, f"http://127.0.0.1:{port}", "--", str(asked), *([str(photo)] if photo else [])]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        seen = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError as error:
        raise RunStopped(f"wrk fails: {done.stdout[-200:]} {done.stderr[-200:]}") from error
    if seen["wrong"]:
        raise RunStopped(f"{seen['wrong']} of {seen['requests']} answers under load are errors.")
    return Load(1e6 * seen["requests"] / seen["microseconds"], seen["p50"] / 1000, seen["p99"] / 1000)
