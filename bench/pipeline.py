"""Benchmarks of `make index`: beside embedding alone, again when nothing or little changed, and its memory."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bench.figure import Bar, Figure, seconds
from bench.material import LARGE, SMALL, Material, Pixels, Shot, prepared
from bench.peers import Peer, fastest
from bench.process import ROOT, Peak, accepts, peak, running
from indexer.ingest.cache import Cache, content_hash
from shared.embedding.embedder import Embedder
from shared.embedding.registry import load
from shared.errors import RunStopped
from shared.images.decode import Picture
from shared.partition import Partition
from shared.snapshot.reader import Snapshot
from shared.vectors.unit import Vectors, normalise

PARTITION = Partition("bench", "pictures")
_MODEL = "efficientnet_lite2"
_ALONE = 512  # pictures, embedded alone
_ALIKE, _CHECKED = 0.99, 32
_IMAGES = ["-m", "http.server", "{port}", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--directory"]


class Run(NamedTuple):
    """The seconds and the memory of a run."""

    seconds: float
    memory: Peak


def small_figures(material: Material) -> Iterator[Figure]:
    """Measure all figures of indexing with small pictures. A run is long, so there are at most three rounds."""
    rounds, wrong = [], ""
    with _shop(material, SMALL) as shop:
        for _ in range(_rounds(material)):
            first, rate = shop.first_run()
            wrong, vectors = wrong or shop.wrong(), _vectors(shop.data)
            again = shop.run()
            if not np.array_equal(vectors, _vectors(shop.data)):
                wrong = wrong or "the vectors changed though no picture did"
            for shot in shop.shots[::100]:
                _change(shop.folder / shot.path)
            changed = shop.run()
            wrong = wrong or shop.wrong()
            rounds.append((first.seconds, rate, again.seconds, changed.seconds, *first.memory))
        whole, rate, same, little, memory, beside = (median(values) for values in zip(*rounds, strict=True))
        yield shop.figure(whole, rate, Bar(0.75), wrong)
        yield Figure("make index, nothing changed", same, "s", "first run", whole, Bar(0.06, most=True), wrong)
        yield Figure("make index, 1 % changed", little, "s", "first run", whole, Bar(0.12, most=True), wrong)
        count, most = len(shop.shots), Bar(900, most=True, absolute=True)
        name, note = "make index, {:,} images: peak memory", f"converting the network takes {beside:,.0f} MB beside it"
        yield Figure(name.format(count), memory, "MB", bar=most, wrong=wrong, note=note)
        many = shop.run_of_many(count * material.sizes.repeats)
    name, peer = name.format(count * material.sizes.repeats), f"{count:,} images"
    yield Figure(name, many.memory.own, "MB", peer, memory, Bar(1.2, most=True), wrong)


def large_figures(material: Material) -> Iterator[Figure]:
    """Measure indexing large pictures, whose decoding takes longer."""
    rounds, wrong = [], ""
    with _shop(material, LARGE) as shop:
        for _ in range(_rounds(material)):
            first, rate = shop.first_run()
            wrong = wrong or shop.wrong()
            rounds.append((first.seconds, rate, first.memory.own))
    whole, rate, memory = (median(values) for values in zip(*rounds, strict=True))
    yield shop.figure(whole, rate, Bar(0.6), wrong, f"peak memory {memory:,.0f} MB")


FIGURES = (small_figures, large_figures)


def _rounds(material: Material) -> int:
    return min(3, material.sizes.rounds)


@dataclass(frozen=True, slots=True)
class _Shop:
    """Pictures of one size in a `folder` that `images` serves, the `network` that embeds them, and `alone`, the fastest
    peer with the pictures that it is timed on."""

    work: Path
    pixels: Pixels
    pictures: Sequence[Shot]
    shots: Sequence[Shot]
    images: str
    network: Embedder
    alone: tuple[Peer, Picture]

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def folder(self) -> Path:
        return self.work / "pictures"

    def run(self) -> Run:
        """Run `make index` on all of it."""
        return index(self.data, self.shots, self.images)

    def first_run(self) -> tuple[Run, float]:
        """Run it into an empty folder, so that it converts the network, too; also return how many pictures a second
        were embedded alone before and after it."""
        shutil.rmtree(self.data, ignore_errors=True)
        peer, pictures = self.alone
        before = seconds(lambda: peer.embed(pictures))
        run = self.run()
        return run, 2 * len(pictures) / (before + seconds(lambda: peer.embed(pictures)))

    def run_of_many(self, count: int) -> Run:
        """Run it on so many pictures, in a folder of its own."""
        more = _copies(self.pictures, range(len(self.shots), count), self.folder)
        return index(self.work / "many", [*self.shots, *more], self.images)

    def wrong(self) -> str:
        """Say how the last run's vectors differ from those of the same files embedded here, if they do."""
        return _wrong(self.data, self.folder, self.shots, self.network)

    def figure(self, whole: float, rate: float, bar: Bar, wrong: str, note: str = "") -> Figure:
        """The figure of runs that took so long, beside so many images a second embedded alone."""
        count, peer = len(self.shots), f"embedding alone, {self.alone[0].name}"
        name = f"make index, {count:,} images of {self.pixels}"
        return Figure(name, count / whole, "images/s", peer, rate, bar, wrong, note)


@contextmanager
def _shop(material: Material, pixels: Pixels) -> Iterator[_Shop]:
    """The catalog's pictures in that size, served while they are needed."""
    work, sizes, network = material.work / "pipeline", material.sizes, load(_MODEL, runtime=material.runtime)
    shutil.rmtree(work, ignore_errors=True)
    catalog = material.catalog[: sizes.images]
    paths = material.sized([shot.path for shot in catalog], pixels)
    pictures = [Shot(shot.product_id, path) for shot, path in zip(catalog, paths, strict=True)]
    shots = _copies(pictures, range(sizes.images), work / "pictures")
    shown = material.pictures(min(_ALONE, sizes.images), network.spec.image_size)
    alone = fastest(network, shown), shown
    with running([sys.executable, *_IMAGES, str(work / "pictures")], accepts) as server:
        images = f"http://127.0.0.1:{server.port}/{{path}}"
        yield _Shop(work, pixels, pictures, shots, images, network, alone)
    shutil.rmtree(work)


def index(data: Path, shots: Sequence[Shot], images: str = "file://{path}") -> Run:
    """Run `make index` on these pictures; `images` says where they lie. Raises `RunStopped` if that fails."""
    data.mkdir(parents=True, exist_ok=True)
    catalog, log = data / "catalog.csv", data / "index.log"
    with catalog.open("w", newline="", encoding="utf-8") as file:
        rows = ((shot.product_id, number, shot.path) for number, shot in enumerate(shots))
        csv.writer(file, delimiter=";").writerows([("product_id_model", "id", "path"), *rows])
    command = [sys.executable, "-m", "indexer", "index", "--data", str(data), "--catalog", str(catalog)]
    command += ["--department", PARTITION.department, "--domain", PARTITION.domain, "--image-url", images]
    # It may be another catalog than before; and LIMIT, which our own is called, too, must not make it shorter.
    command += ["--max-drop", "1", "--limit", str(len(shots))]
    start = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        memory = peak(process)
    if process.returncode:
        raise RunStopped(f"make index failed; its log is {log}")
    return Run(time.perf_counter() - start, memory)


def indexed(material: Material) -> tuple[Path, Snapshot]:
    """A data folder with the catalog's pictures, indexed where they lie."""
    data = material.work / "photos"
    index(data, material.catalog[: material.sizes.images])
    return data, Snapshot.current(data, PARTITION)


def _copies(shots: Sequence[Shot], numbers: range, folder: Path) -> list[Shot]:
    """Make so many pictures, repeated under other ids and bytes if there are too few; paths are relative to the
    folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in numbers:
        again, at = divmod(number, len(shots))
        path = Path(f"{number}{shots[at].path.suffix}")
        # Decoders ignore what follows a picture's end.
        (folder / path).write_bytes(shots[at].path.read_bytes() + (b"%d" % again if again else b""))
        found.append(Shot(f"{shots[at].product_id}-{again}" if again else shots[at].product_id, path))
    return found


def _change(path: Path) -> None:
    """Change a file's bytes, and its time so that an HTTP server tells it apart from the one before."""
    later = path.stat().st_mtime + 10
    path.write_bytes(path.read_bytes() + b"changed")
    os.utime(path, (later, later))


def _vectors(data: Path) -> Vectors:
    snapshot = Snapshot.current(data, PARTITION)
    return snapshot.store.vectors(0, snapshot.store.count)


def _wrong(data: Path, folder: Path, shots: Sequence[Shot], network: Embedder) -> str:
    """Say how a run's vectors differ from those of the same files embedded here, if they do."""
    count = Snapshot.current(data, PARTITION).manifest.count
    if count != len(shots):
        return f"{count} of {len(shots)} images were indexed"
    paths, spec = [folder / shot.path for shot in shots[:: max(1, len(shots) // _CHECKED)]], network.spec
    with Cache(data) as cache:
        kept = cache.vectors(spec.fingerprint, [content_hash(path.read_bytes()) for path in paths], spec.dimension)
    worst = float((normalise(kept) * normalise(network.embed(prepared(paths, spec.image_size)))).sum(axis=1).min())
    return "" if worst >= _ALIKE else f"a vector has cosine {worst:.4f} to the same picture embedded alone"
