"""How long the stages of an answer take, told to whoever listens: nobody, but in a server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str, float], None]] = []


def listen(tell: Callable[[str, float], None]) -> None:
    """Have `tell(stage, seconds)` called from now on, in whichever thread it was."""
    _listeners.append(tell)


def took(name: str, seconds: float) -> None:
    """This stage of an answer took so long."""
    for tell in _listeners:
        tell(name, seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time what is inside, or the function that this decorates."""
    began = time.perf_counter()
    try:
        yield
    finally:
        took(name, time.perf_counter() - began)
