"""Files that are no pictures, or hardly: whatever they are, the server answers 2xx or 4xx, and an index run goes on."""

import csv
import io
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from tests.support.answers import ask
from tests.support.image_server import ImageServer
from tests.support.indexing import plan, run
from tests.support.pictures import drawn, vectors
from tests.support.processes import workers
from tests.support.project import SHARED, needs_shared, often
from tests.support.server import serving
from tests.support.snapshots import snapshot_of

Record = Callable[[str, object], None]
SEARCH = "/v1/371/0341/search"
_SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
OTHERS = {
    "HTML": b"<!doctype html><html></html>",
    "JSON": b'{"image": 1}',
    "SVG": _SVG,
    "TIFF": drawn(1, kind="TIFF"),
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x40\0\0\0\x40\0\x08\0\3" + bytes(5000),
    "EPS": drawn(1, kind="EPS"),
    "PDF": drawn(1, kind="PDF"),
    "ICO": drawn(1, kind="ICO"),
    "JPEG 2000": drawn(1, kind="JPEG2000"),
}
SOUND = [drawn(n, (90, 70), kind) for n, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"))]


@dataclass(frozen=True)
class Running:
    """A server on its own data, its only worker, and the file that a started Ghostscript leaves."""

    base: str
    worker: int
    ghostscript: Path

    def search(self, data: bytes) -> int:
        return ask(self.base + SEARCH, data)[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server in whose PATH is a `gs` that leaves a mark."""
    data, programs = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("programs")
    mark = programs / "started"
    (programs / "gs").write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    (programs / "gs").chmod(0o755)
    snapshot_of(data, ["p1", "p2"], vectors(1, 2))
    with serving(data, PATH=f"{programs}:{os.environ['PATH']}") as base:
        yield Running(base, workers(base)[0], mark)


def fuzzed(seed: int, count: int) -> Iterator[bytes]:
    """Pictures of every format in which bits are flipped, or bytes changed, cut off, doubled, or of another picture."""
    dice = random.Random(seed)
    for number in range(count):
        data = bytearray(SOUND[number % len(SOUND)])
        for _ in range(dice.choice((1, 1, 2, 8, 64))):
            at = dice.randrange(len(data)) if dice.random() < 0.5 else dice.randrange(min(len(data), 200))
            size = dice.choice((1, 2, 4, 100))
            match dice.randrange(6):
                case 0 | 1:
                    data[at] ^= 1 << dice.randrange(8)
                case 2:
                    data[at : at + size] = dice.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
                case 3:
                    data[at:at] = data[at : at + size]
                case 4:
                    other = dice.choice(SOUND)
                    data[at:] = other[min(at, len(other) - 1) :]
                case 5:
                    del data[max(1, at) :][:size]
        yield bytes(data)


def all_are_answered(server: Running, pictures: Iterator[bytes], record: Record) -> None:
    """Search for each. None is a fault of the server's, and it has the same worker afterwards."""
    statuses, slowest = Counter[int](), 0.0
    for data in pictures:
        began = time.monotonic()
        status = server.search(data)
        slowest = max(slowest, time.monotonic() - began)
        assert 200 <= status < 500, (status, data[:100])
        statuses[status] += 1
    record("answers", dict(sorted(statuses.items())))
    record("slowest", f"{slowest:.2f} s")
    assert slowest < 10
    assert server.search(SOUND[0]) == 200
    assert workers(server.base) == [server.worker]


def hostile() -> Iterator[bytes]:
    with (SHARED / "hostile" / "manifest.csv").open(newline="") as file:
        for case in csv.DictReader(file):
            yield (SHARED / "hostile" / "files" / case["file"]).read_bytes()


@pytest.mark.fault("I4")
@pytest.mark.slow
def test_what_is_no_picture_is_415_and_starts_no_ghostscript(
    server: Running, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    for sort, data in OTHERS.items():
        assert server.search(data) == 415, sort
    assert server.search(b"") == 400
    record_property("refused", len(OTHERS) + 1)
    assert not server.ghostscript.exists()
    # Pillow by itself would find it and start it.
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    monkeypatch.setenv("PATH", f"{server.ghostscript.parent}:{os.environ['PATH']}")
    with Image.open(io.BytesIO(OTHERS["EPS"])) as image, pytest.raises(UnidentifiedImageError):
        image.load()
    assert server.ghostscript.exists()
    server.ghostscript.unlink()


@pytest.mark.fault("I5")
@pytest.mark.slow
def test_fuzzed_pictures_are_answered(server: Running, record_property: Record) -> None:
    all_are_answered(server, fuzzed(1, often(5000, 700)), record_property)


@pytest.mark.fault("I5")
@pytest.mark.fault("I1")
@pytest.mark.slow
@needs_shared
def test_hostile_pictures_are_answered(server: Running, record_property: Record) -> None:
    all_are_answered(server, hostile(), record_property)


@pytest.mark.fault("I5")
@pytest.mark.slow
@pytest.mark.parametrize("sort", ["fuzzed", pytest.param("hostile", marks=needs_shared)])
def test_an_index_run_accounts_for_every_picture(
    sort: str, cdn: ImageServer, tmp_path: Path, record_property: Record
) -> None:
    pictures = [SOUND[0], *(hostile() if sort == "hostile" else fuzzed(2, often(3000, 400)))]
    cdn.answers |= {f"/{n}": data for n, data in enumerate(pictures)}
    rows = "product_id_model;id\n" + "".join(f"p{n};{n}\n" for n in range(len(pictures)))
    report = run(tmp_path, rows, cdn.url + "/{id}", plan(max_failures=1)).report.to_dict()
    assert (report["rows"], report["indexed"] + report["refused"]) == (len(pictures), len(pictures))
    assert report["indexed"] >= 1
    assert report["refused_by_kind"].keys() <= {
        "bad_image", "unsupported_format", "too_many_pixels", "too_large", "empty", "bad_vector",
    }  # fmt: skip
    record_property(sort, f"{report['indexed']} indexed, {report['refused_by_kind']} refused")
