"""Meters of transfers: they are told of bytes as they move."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from shared.storage.bucket import Advance

Meter = Callable[[str, int], AbstractContextManager[Advance]]
"""`with meter("sending", total_bytes) as advance: advance(bytes)`: shows how far a transfer is."""


def unmetered(_what: str, _total: int) -> AbstractContextManager[Advance]:
    """A `Meter` that shows nothing."""
    return nullcontext(lambda _moved: None)
