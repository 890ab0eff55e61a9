"""The engine that runs networks, and the folder of converted ones.

OpenVINO runs every network on the processor: it is ready in a third of a second and takes a tenth of TensorFlow's
memory. TensorFlow runs those that it defines where OpenVINO cannot be had, on a GPU, or where it is asked for.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from shared.errors import ModelError

_MOST_STREAMS = 16
_GPUS = Path("/proc/driver/nvidia/gpus")


class Engine(StrEnum):
    """The libraries that run networks."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TENSORFLOW = "tensorflow"


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings of the engine. `folder` keeps converted networks by their fingerprints; without one they last as long as
    this process. `streams`: how many pictures are embedded at once, each by a thread; 0: one for each core."""

    folder: Path | None = None
    engine: Engine = Engine.AUTO
    streams: int = 0

    @property
    def threads(self) -> int:
        """The number of pictures that are embedded at once."""
        return self.streams or min(cores(), _MOST_STREAMS)

    @property
    def uses_openvino(self) -> bool:
        """True if OpenVINO runs networks that both engines can run."""
        if self.engine is not Engine.AUTO:
            return self.engine is Engine.OPENVINO
        gpu = _GPUS.is_dir() and find_spec("tensorflow") is not None
        return find_spec("openvino") is not None and not gpu

    def place(self, fingerprint: str) -> Path:
        """The folder of the converted network of that fingerprint."""
        return (self.folder or _temporary()) / fingerprint


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fingerprint(recipe: str, *weights: Path) -> str:
    """A hash of all that decides the vectors: a `recipe` that names network and preprocessing, and the weights files.

    The engine is no part of it: the vectors of both agree (cosine above 0.995), so either may embed for the other.
    """
    digest = hashlib.sha256(recipe.encode())
    for path in weights:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"The weights file {path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()[:32]


@cache
def _temporary() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="image-similarity-networks-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when this process ends
