"""The processes of a running server, and limits of a process."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def no_larger_than(limit: int) -> dict[str, Any]:
    """Arguments of `subprocess` that let no file of the process have more bytes than that.

    It writes no bytecode. Python 3.11 keeps the beginning of a `.pyc` that is cut off, and then nobody can import it.
    """
    return {
        "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        "env": {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    }


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def master(base: str) -> int:
    """The process id of the gunicorn master that serves there."""
    asked = f"--bind\0{base.removeprefix('http://')}".encode()
    pids = [pid for pid, line in commands() if asked in line]
    return next(pid for pid in pids if parent_of(pid) not in pids)


def commands() -> Iterator[tuple[int, bytes]]:
    """The process ids and command lines of this machine, words apart by NUL."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(path.name), (path / "cmdline").read_bytes()


def workers(base: str) -> list[int]:
    """The process ids of the workers of the gunicorn that serves there."""
    return children_of(master(base))


def children_of(parent: int) -> list[int]:
    """The process ids of a process's running children."""
    found = []
    for pid, _ in commands():
        with contextlib.suppress(OSError):  # it may have ended by now
            if running(pid) and parent_of(pid) == parent:
                found.append(pid)
    return found


def running(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
