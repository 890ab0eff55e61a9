"""More than a server can do: workers without memory, and floods. Others are answered, in bounded time."""

import http.client
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.answers import ask
from tests.support.pictures import drawn, encoded, vectors
from tests.support.processes import workers
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of

Record = Callable[[str, object], None]
SEARCH = "/v1/371/0341/search"
SIMILAR = "/v1/371/0341/products/p1/similar"

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, ["p1", "p2"], vectors(1, 2))
    return tmp_path


def large(edge: int) -> bytes:
    """A picture of as many pixels as it says, as PNG: it is decoded whole."""
    rows = np.arange(edge, dtype=np.uint16)
    return encoded((rows[:, None] ^ rows).astype(np.uint8)[..., None].repeat(3, 2), "PNG", compress_level=1)


def forbid_memory(pid: int) -> None:
    """Let a process have no more memory than it has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)


@pytest.mark.fault("R4")
def test_a_worker_without_memory_is_replaced_and_the_others_answer(data: Path, record_property: Record) -> None:
    picture = large(3000)
    with serving(data, workers=2) as base:

        def search(_: int) -> int | None:
            try:
                return ask(base + SEARCH, picture)[0]
            except (OSError, http.client.HTTPException):  # its own connection may be the lost one
                return None

        starved, other = workers(base)
        forbid_memory(starved)
        with ThreadPoolExecutor(8) as pool:
            under = Counter[int | None]()

            def replaced() -> bool:
                under.update(pool.map(search, range(8)))
                return starved not in workers(base)

            until(replaced, 60)
            until(lambda: len(workers(base)) == 2 and ask(f"{base}/readyz")[0] == 200, 30)
            assert {*pool.map(search, range(16))} == {200}
        assert other in workers(base)
        assert {*under} <= {200, 422, 500, 503, None}
        assert under[200]
    record_property("answers meanwhile", {str(status): count for status, count in under.items()})


@pytest.mark.fault("R4")
def test_a_picture_of_50_megapixels_is_refused_by_a_worker_that_could_not_hold_it(data: Path) -> None:
    picture = large(7072)
    with serving(data) as base:
        before = workers(base)
        pages = int(Path(f"/proc/{before[0]}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 60_000_000
        resource.prlimit(before[0], resource.RLIMIT_AS, (limit, limit))
        assert {ask(base + SEARCH, picture)[0] for _ in range(5)} == {413}
        assert ask(base + SEARCH, drawn(1))[0] == 200
        assert workers(base) == before


@pytest.mark.fault("R5")
def test_three_times_as_many_photos_as_can_be_searched_are_answered_in_time_or_sent_away(
    data: Path, record_property: Record
) -> None:
    """Photos come in an open loop, whether those before were answered or not; the last hundred at once."""
    picture, seconds = large(3000), list[tuple[int, float, str | None]]()
    with serving(data) as base:

        def search() -> None:
            began = time.monotonic()
            status, _, headers = ask(base + SEARCH, picture)
            seconds.append((status, time.monotonic() - began, headers["Retry-After"]))

        def all_done(count: int) -> float:
            began = time.monotonic()
            with ThreadPoolExecutor(4) as pool:
                for done in [pool.submit(search) for _ in range(count)]:
                    done.result()
            return time.monotonic() - began

        all_done(4)
        capacity = 16 / all_done(16)
        seconds.clear()
        threads, pause = list[threading.Thread](), 1 / (3 * capacity)
        began = time.monotonic()
        for number in range(160):
            time.sleep(max(0.0, began + min(number, 60) * pause - time.monotonic()))
            threads.append(threading.Thread(target=search))
            threads[-1].start()
            if number % 20 == 0:
                assert ask(base + SIMILAR)[0] == 200
        for thread in threads:
            thread.join()
    assert len(seconds) == 160
    statuses = Counter(status for status, _, _ in seconds)
    assert statuses.keys() == {200, 503}
    assert all(retry for status, _, retry in seconds if status == 503)
    accepted = sorted(took for status, took, _ in seconds if status == 200)
    p99 = accepted[int(0.99 * len(accepted))]
    record_property("capacity", f"{capacity:.0f}/s")
    record_property("at three times that", f"{dict(statuses)}, p99 of those accepted {p99:.1f} s")
    assert p99 < 30  # a photo waits ten seconds for the network, and some for its turn to be decoded
