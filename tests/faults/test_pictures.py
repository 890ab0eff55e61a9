"""Pictures that are small files and take much memory: one is bounded, and so are all of a worker together."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from shared.images.decode import decode_sized
from shared.images.memory import MemoryBudget
from shared.refusals import Kind, Refusal
from tests.support.answers import ask
from tests.support.pictures import vectors
from tests.support.processes import workers
from tests.support.project import ROOT
from tests.support.server import serving, until
from tests.support.snapshots import snapshot_of

_TURNED = Image.Exif()
_TURNED[0x0112] = 6
MEGABYTE = 1e6
# Each as large as is admitted: pixels of an edge, mode, and how it is encoded.
LARGEST = {
    "webp": (2400, "RGBA", {"format": "WEBP", "lossless": True}),
    "png": (4580, "RGBA", {"format": "PNG", "compress_level": 1}),
    "grey with alpha": (4580, "LA", {"format": "PNG", "compress_level": 1}),
    "16 bits": (4580, "I;16", {"format": "PNG", "compress_level": 1}),
    "palette": (4580, "P", {"format": "GIF"}),
    "jpeg": (5000, "RGB", {"format": "JPEG", "exif": _TURNED}),
    "progressive": (4890, "RGB", {"format": "JPEG", "progressive": True}),
    "cmyk": (5000, "CMYK", {"format": "JPEG"}),
}
_MEASURE = """
import sys, time
from shared.images.crop import Crop
from shared.images.decode import decode
from shared.refusals import Refusal

def memory(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

data = open(sys.argv[1], "rb").read()
for crop in (None, Crop.parse("0.1,0.1,0.34,0.34")):
    open("/proc/self/clear_refs", "w").write("5")
    before, began = memory("VmRSS"), time.monotonic()
    found = decode(data, crop, 580)
    seconds = time.monotonic() - began
    print(found.kind if isinstance(found, Refusal) else "decoded", memory("VmHWM") - before, seconds)
"""


def measured(data: bytes, folder: Path) -> list[tuple[str, float, float]]:
    """Decode a picture, and then a part of it, in a process of its own. For each: what became of it, by how many MB the
    memory grew at most, and the seconds that it took."""
    (folder / "picture").write_bytes(data)
    command = [sys.executable, "-c", _MEASURE, str(folder / "picture")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(became, int(grew) / MEGABYTE, float(seconds)) for became, grew, seconds in lines]


def flat(edge: int, mode: str, options: dict[str, object]) -> bytes:
    """A picture of one colour: a small file, whatever its size."""
    file = io.BytesIO()
    Image.new(mode, (edge, edge)).save(file, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.fault("B1")
@pytest.mark.slow
@pytest.mark.parametrize("sort", LARGEST)
def test_one_picture_takes_at_most_100_megabytes_whatever_its_format_crop_or_orientation(
    sort: str, tmp_path: Path
) -> None:
    for became, megabytes, _ in measured(flat(*LARGEST[sort]), tmp_path):
        assert became == "decoded"
        assert megabytes <= 100


@pytest.mark.fault("B1")
def with_chunk(name: bytes, content: bytes) -> bytes:
    """A PNG of one pixel that has another chunk before its pixels."""
    plain = flat(1, "RGB", {"format": "PNG"})
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return plain[:33] + chunk + plain[33:]


@cache
def packed() -> bytes:
    return zlib.compress(bytes(200_000_000))


# Each is made when its test runs: what it is, and what becomes of it.
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 50 megapixels": (lambda: flat(7072, "L", {"format": "PNG"}), "too_many_pixels"),
    "WebP of 30 megapixels": (lambda: flat(5500, "RGB", {"format": "WEBP", "lossless": True}), "too_many_pixels"),
    "GIF of 4,000 megapixels": (
        lambda: b"GIF89a" + b"\xff" * 4 + flat(9, "P", {"format": "GIF"})[10:],
        "too_many_pixels",
    ),
    "BMP of 2,500 megapixels": (
        lambda: flat(9, "RGB", {"format": "BMP"}).replace(struct.pack("<ii", 9, 9), struct.pack("<ii", 50_000, 50_000)),
        "too_many_pixels",
    ),
    "text of 200 MB": (lambda: with_chunk(b"zTXt", b"a\0\0" + packed()), "bad_image"),
    "international text of 200 MB": (lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + packed()), "bad_image"),
    "profile of 200 MB": (lambda: with_chunk(b"iCCP", b"a\0\0" + packed()), "bad_image"),
    "file of 11 MB": (lambda: flat(9, "RGB", {"format": "JPEG"}) + bytes(11_000_000), "too_large"),
}


@pytest.mark.fault("I3")
@pytest.mark.slow
@pytest.mark.parametrize("sort", BOMBS)
def test_a_bomb_takes_no_memory_and_no_time(
    sort: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made, expected = BOMBS[sort]
    became, megabytes, seconds = measured(made(), tmp_path)[0]
    record_property(f"{sort}:", f"{became}, {megabytes:.0f} MB, {1000 * seconds:.0f} ms")
    assert became == expected
    assert megabytes < 100
    assert seconds < 2  # to decode it would take longer


@pytest.mark.parametrize(
    ("edge", "mode", "options"),
    [
        (5000, "RGBA", {"format": "WEBP", "lossless": True}),
        (4900, "RGB", {"format": "PNG"}),
        (4900, "RGB", {"format": "JPEG", "progressive": True, "subsampling": 0}),
    ],
)
def test_what_takes_more_is_refused_with_the_reason_and_the_remedy(
    edge: int, mode: str, options: dict[str, object]
) -> None:
    data = flat(edge, mode, options)
    refused = decode_sized(data, edge=580)
    assert isinstance(refused, Refusal)
    assert refused.kind == Kind.TOO_MANY_PIXELS
    assert f"{edge} x {edge} pixels; as {options['format']} that takes" in refused.detail
    assert "the limit is 100. Send it smaller, or as a baseline JPEG." in refused.detail
    # An index run, which decodes a few at once, takes it all the same.
    assert not isinstance(decode_sized(data, edge=348, memory=400_000_000), Refusal)


@pytest.mark.fault("B1")
def test_a_budget_is_never_exceeded_and_what_is_larger_goes_alone() -> None:
    budget, used, most, lock = MemoryBudget(100), 0, 0, threading.Lock()

    def use(amount: int) -> None:
        nonlocal used, most
        with budget.held(amount):
            with lock:
                used += amount
                most = max(most, used)
            time.sleep(0.002)
            with lock:
                used -= amount

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, [30, 60, 10, 45, 100] * 20))
    assert most <= 100
    with ThreadPoolExecutor(1) as pool, budget.held(500):
        late = pool.submit(use, 1)
        time.sleep(0.05)
        assert not late.done()


@pytest.mark.fault("B1")
@pytest.mark.slow
def test_twenty_worst_pictures_at_once_stay_within_600_megabytes_and_come_back(tmp_path: Path) -> None:
    snapshot_of(tmp_path, ["p1", "p2"], vectors(1, 2))
    worst = flat(*LARGEST["webp"])
    with serving(tmp_path) as base:
        (worker,) = workers(base)
        search = f"{base}/v1/371/0341/search"
        assert ask(search, worst)[0] == 200
        idle, high = resident(worker), 0.0
        stop = threading.Event()

        def watch() -> None:
            nonlocal high
            while not stop.wait(0.02):
                high = max(high, resident(worker))

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(lambda _: ask(search, worst)[0], range(20)))
        stop.set()
        watcher.join()
        assert set(statuses) == {200}
        assert high - idle <= 600
        below: Callable[[], bool] = lambda: resident(worker) - idle <= 100  # noqa: E731
        until(below, 10)


def resident(pid: int) -> float:
    """The resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MEGABYTE
