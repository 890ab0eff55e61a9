"""`make index` as a whole: against embedding alone, again when nothing or little changed, and its memory."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bench.embed import batched
from bench.figure import Bar, Figure, seconds
from bench.material import Material, Shot, prepared
from bench.process import ROOT, accepts, peak, running
from indexer.cache import Cache, content_hash
from indexer.pipeline import BATCH
from shared.embedders import Embedder
from shared.embedders.registry import load
from shared.errors import RunStopped
from shared.partition import Partition
from shared.snapshot import Snapshot
from shared.vectors import Vectors, normalise

PARTITION = Partition("bench", "pictures")
_MODEL = "efficientnet_lite2"
_ALONE = 512  # pictures, embedded alone
_ALIKE, _CHECKED = 0.99, 32
_IMAGES = ["-m", "http.server", "{port}", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--directory"]


class Run(NamedTuple):
    """How long a run took, and its peak memory in MB."""

    seconds: float
    memory: float


def figures(material: Material) -> Iterator[Figure]:
    """All figures of indexing. A run is long, so there are three rounds of it at the most."""
    work, sizes, network = material.work / "pipeline", material.sizes, load(_MODEL)
    data, folder = work / "data", work / "pictures"
    shutil.rmtree(work, ignore_errors=True)
    shots = _copies(material.catalog, range(sizes.images), folder)
    pictures = material.pictures(min(_ALONE, sizes.images), network.spec.image_size)
    alone = partial(batched(network.embed, BATCH), pictures)
    network.embed(pictures[:BATCH])
    rounds, wrong = [], ""
    with running([sys.executable, *_IMAGES, str(folder)], accepts) as server:
        images = f"http://127.0.0.1:{server.port}/{{path}}"
        for _ in range(min(3, sizes.rounds)):
            shutil.rmtree(data, ignore_errors=True)
            before = seconds(alone)
            first = index(data, shots, images)
            limit = (before + seconds(alone)) / 2 / len(pictures)
            wrong, vectors = wrong or _wrong(data, folder, shots, network), _vectors(data)
            again = index(data, shots, images)
            if not np.array_equal(vectors, _vectors(data)):
                wrong = wrong or "the vectors changed though no picture did"
            for shot in shots[::100]:
                _change(folder / shot.path)
            changed = index(data, shots, images)
            wrong = wrong or _wrong(data, folder, shots, network)
            rounds.append((first.seconds, limit, again.seconds, changed.seconds, first.memory))
        whole, limit, same, little, memory = (median(values) for values in zip(*rounds, strict=True))
        name, rate = f"make index, {len(shots):,} images over HTTP", len(shots) / whole
        yield Figure(name, rate, "images/s", "embedding alone", 1 / limit, Bar(0.9), wrong)
        yield Figure("make index, nothing changed", same, "s", "first run", whole, Bar(0.03, most=True), wrong)
        yield Figure("make index, 1 % changed", little, "s", "first run", whole, Bar(0.05, most=True), wrong)
        count = len(shots) * sizes.repeats
        many = index(work / "many", [*shots, *_copies(material.catalog, range(len(shots), count), folder)], images)
    name, peer = f"make index, {count:,} images: peak memory", f"{len(shots):,} images"
    yield Figure(name, many.memory, "MB", peer, memory, Bar(1.2, most=True), wrong)
    shutil.rmtree(work)


FIGURES = (figures,)


def index(data: Path, shots: Sequence[Shot], images: str = "file://{path}") -> Run:
    """`make index` of these pictures; `images` says where they lie. Raises `RunStopped` where that fails."""
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
    """So many pictures, again under other ids and bytes where there are too few; paths are relative to the folder."""
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
    """Other bytes, and a time that an HTTP server tells apart from the one before."""
    later = path.stat().st_mtime + 10
    path.write_bytes(path.read_bytes() + b"changed")
    os.utime(path, (later, later))


def _vectors(data: Path) -> Vectors:
    snapshot = Snapshot.current(data, PARTITION)
    return snapshot.store.vectors(0, snapshot.store.count)


def _wrong(data: Path, folder: Path, shots: Sequence[Shot], network: Embedder) -> str:
    """In what a run's vectors differ from those of the same files embedded here, where they do."""
    count = Snapshot.current(data, PARTITION).manifest.count
    if count != len(shots):
        return f"{count} of {len(shots)} images were indexed"
    paths, spec = [folder / shot.path for shot in shots[:: max(1, len(shots) // _CHECKED)]], network.spec
    with Cache(data) as cache:
        kept = cache.vectors(spec.fingerprint, [content_hash(path.read_bytes()) for path in paths], spec.dimension)
    worst = float((normalise(kept) * normalise(network.embed(prepared(paths, spec.image_size)))).sum(axis=1).min())
    return "" if worst >= _ALIKE else f"a vector has cosine {worst:.4f} to the same picture embedded alone"
