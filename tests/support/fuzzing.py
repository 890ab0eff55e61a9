"""Fuzzing: try a property on generated values, some dozens in a test, or for minutes with `make fuzz`."""

import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from shared.errors import SimilarityError

MINUTES = float(os.environ.get("FUZZ_MINUTES") or 0)
SECONDS, MEGABYTES = 10.0, 150.0  # the most that one example may take: of the processor, and beside what is there
_CHECKS = list(HealthCheck)  # values may be large, and fixtures are meant for all examples
_ALL = settings(database=None, deadline=None, suppress_health_check=_CHECKS, verbosity=Verbosity.quiet)
_ROUND = 500  # examples of one seed
T = TypeVar("T")


def fuzz(values: SearchStrategy[T], holds: Callable[[T], object], examples: int = 60) -> None:
    """Try that a property holds: the same few examples each time, or new ones until the minutes are over.

    Fails with the smallest example that is found. An example that takes much time or memory fails, too.
    """
    tried = 0

    def bounded(value: T) -> None:
        nonlocal tried
        tried += 1
        Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted anew
        memory, start = _kilobytes("VmRSS"), time.process_time()
        try:
            holds(value)
        except BaseException as error:
            error.add_note(f"The example: {value!r:.2000}")
            raise
        assert time.process_time() - start < SECONDS
        assert (_kilobytes("VmHWM") - memory) / 1024 < MEGABYTES

    if not MINUTES:
        few = settings(_ALL, max_examples=examples, derandomize=True, phases=(Phase.generate, Phase.shrink))
        few(given(values)(bounded))()
        return
    end = time.monotonic() + 60 * MINUTES
    try:
        for number in itertools.count(random.SystemRandom().randrange(1 << 32)):
            seed(number)(settings(_ALL, max_examples=_ROUND)(given(values)(bounded)))()
            if time.monotonic() > end:
                return
    finally:
        print(f"\n{os.environ.get('PYTEST_CURRENT_TEST', '').partition(' ')[0]}: {tried:,} examples", flush=True)


def is_refused(function: Callable[[], object], *errors: type[SimilarityError]) -> bool:
    """Tell whether a call ends with one of these errors, which must say why in a sentence. No other error may come."""
    try:
        function()
    except errors as error:
        said = str(error)
    else:
        return False
    assert is_sentence(said), said
    return True


def is_sentence(text: str) -> bool:
    """Tell whether a text is for people: one line that can be printed, with a full stop."""
    return len(text) > 10 and text.isprintable() and text.endswith(".")


@st.composite
def damaged(draw: DrawFn, whole: SearchStrategy[bytes], tokens: Sequence[bytes] = (), most: int = 6) -> bytes:
    """Valid bytes after some changes: bits flipped, parts cut out, doubled or moved, other bytes put in.

    Only how many is left to hypothesis, which takes a millisecond for each choice.
    """
    data, dice = bytearray(draw(whole)), random.Random(draw(st.integers(0, 1 << 32)))
    for _ in range(draw(st.integers(0, most))):
        at, length = dice.randint(0, len(data)), dice.choice([1, 2, 4, 16, 64])
        match dice.choice(["flip", "cut", "end", "double", "move", "put", "put"]):
            case "flip":
                data[at : at + 1] = bytes(byte ^ (1 << dice.randrange(8)) for byte in data[at : at + 1])
            case "cut":
                del data[at : at + length]
            case "end":
                del data[at:]
            case "double":
                data[at:at] = data[at : at + length] * dice.choice([1, 2, 100])
            case "move":
                piece, to = data[at : at + length], dice.randint(0, len(data))
                data[to : to + dice.choice([0, length])] = piece
            case _:
                put = dice.choice([*tokens, b"\0", b"\xff" * 4, b"\x80", dice.randbytes(dice.randint(1, 8))])
                data[at : at + dice.choice([0, 0, 1, len(put)])] = put
    return bytes(data)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
