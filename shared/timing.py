"""Time the stages of an answer, and tell listeners: there are none but in a server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str, float], None]] = []


def listen(tell: Callable[[str, float], None]) -> None:
    """Have `tell(stage, seconds)` called from now on, in the thread of the stage."""
    _listeners.append(tell)


def took(name: str, seconds: float) -> None:
    """Tell listeners that this stage of an answer took so long."""
    for tell in _listeners:
        tell(name, seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time the block, or the function that this decorates."""
    began = time.perf_counter()
    try:
        yield
    finally:
        took(name, time.perf_counter() - began)
