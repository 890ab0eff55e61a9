"""Families of networks, before an engine runs them: a file for each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shared.embedding.embedder import EmbedderSpec


@dataclass(frozen=True, slots=True)
class Definition:
    """A network as TensorFlow defines it: `call` makes vectors of float images `(n, size, size, 3)`, 0 to 255."""

    call: Callable[[Any], Any]
    size: int


class Family(Protocol):
    """A network by its name and its weights. Making one loads no engine."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str:
        """The name or path that `registry.load` finds it by."""
        ...

    @property
    def weights(self) -> tuple[Path, ...]:
        """Files that the user gave, or that were downloaded; empty where a Python package brings them."""
        ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def spec(self) -> EmbedderSpec | None:
        """The spec of the network, None if only the built network can tell."""
        ...

    def define(self) -> Definition:
        """Define the network for TensorFlow. Raises `ModelError` if it is none of its, or the weights are wrong."""
        ...

    def convert(self, folder: Path) -> None:
        """Write the network for OpenVINO, in this process. Raises `ModelError`, and `NotConvertible` if only TensorFlow
        can run it."""
        ...
