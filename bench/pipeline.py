"""`make index` as a whole: against embedding alone, again when nothing or little changed, and its memory."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.config import BenchConfig
from bench.figure import Bar, Figure, interleaved
from bench.indexing import Run, image_server, index
from bench.material import Shot, material, prepared
from indexer.cache import Cache, content_hash
from shared.embedders import Embedder, load
from shared.images import Picture
from shared.partition import Partition
from shared.snapshot import Snapshot
from shared.vectors import Vectors, normalise

_MODEL = "efficientnet_lite2"
_PARTITION = Partition("bench", "pipeline")
_BATCH = 16
_ALIKE = 0.99
_CHECKED = 32


def figures(config: BenchConfig) -> Iterator[Figure]:
    """All figures of indexing. A run is long, so each is made once."""
    work, shown, sizes = config.work / "pipeline", material(config), config.sizes
    shutil.rmtree(work, ignore_errors=True)
    network = load(_MODEL)
    shots = _copies(shown.catalog, min(sizes.images, len(shown.catalog)), work / "pictures")
    pictures = shown.pictures(sizes.pictures, network.spec.image_size)
    alone = _embedding_alone(network, pictures, len(shots))
    with image_server(work / "pictures") as images:
        first = _indexed(work / "data", shots, images)
        wrong = _wrong(work / "data", work / "pictures", shots, network)
        name = f"make index, {len(shots):,} images over HTTP"
        rates = len(shots) / first.seconds, len(shots) / alone
        yield Figure(name, rates[0], "images/s", "embedding alone", rates[1], Bar(0.9), wrong)
        before = _vectors(work / "data")
        again = _indexed(work / "data", shots, images)
        same = wrong or ("" if np.array_equal(before, _vectors(work / "data")) else "the vectors changed")
        yield Figure(
            "second run, nothing changed", again.seconds, "s", "first run", first.seconds, Bar(0.03, most=True), same
        )
        for shot in shots[:: max(1, min(100, len(shots)))]:
            _change(work / "pictures" / shot.path)
        changed = _indexed(work / "data", shots, images)
        wrong = wrong or _wrong(work / "data", work / "pictures", shots, network)
        yield Figure(
            "second run, 1 % changed", changed.seconds, "s", "first run", first.seconds, Bar(0.05, most=True), wrong
        )
        more = _copies(shown.catalog, len(shots) * sizes.repeats, work / "pictures", len(shots))
        large = _indexed(work / "large", [*shots, *more], images)
    name = f"peak memory, {len(shots) * sizes.repeats:,} images"
    peer = f"{len(shots):,} images"
    yield Figure(name, large.memory, "MB", peer, first.memory, Bar(1.2, most=True), wrong)


def _indexed(data: Path, shots: Sequence[Shot], images: str) -> Run:
    return index(data, _PARTITION, shots, images + "/{path}")


def _copies(shots: Sequence[Shot], count: int, folder: Path, start: int = 0) -> list[Shot]:
    """The pictures from number `start` to `count`, again under other ids and bytes where there are not so many; paths
    are relative to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(start, count):
        again, at = divmod(number, len(shots))
        path = Path(f"{number}{shots[at].path.suffix}")
        # Decoders ignore what follows a picture's end.
        (folder / path).write_bytes(shots[at].path.read_bytes() + (b"%d" % again if again else b""))
        found.append(Shot(f"{shots[at].product_id}-{again}" if again else shots[at].product_id, path))
    return found


def _change(path: Path) -> None:
    """Other bytes, and a time that an HTTP server tells apart from the one before."""
    path.write_bytes(path.read_bytes() + b"changed")
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))


def _embedding_alone(network: Embedder, pictures: Picture, count: int) -> float:
    """The seconds that so many pictures take, decoded already."""
    batches = [pictures[at : at + _BATCH] for at in range(0, len(pictures), _BATCH)]
    network.embed(batches[0])

    def embed() -> None:
        for batch in batches:
            network.embed(batch)

    (seconds,) = interleaved(3, embed)
    return seconds * count / len(pictures)


def _vectors(data: Path) -> Vectors:
    snapshot = Snapshot.current(data, _PARTITION)
    return snapshot.store.vectors(0, snapshot.store.count)


def _wrong(data: Path, folder: Path, shots: Sequence[Shot], network: Embedder) -> str:
    """In what a run's vectors differ from those of the same files embedded here, where they do."""
    count = Snapshot.current(data, _PARTITION).manifest.count
    if count != len(shots):
        return f"{count} of {len(shots)} images were indexed"
    paths = [folder / shot.path for shot in shots[:_CHECKED]]
    with Cache(data) as cache:
        spec = network.spec
        kept = cache.vectors(spec.fingerprint, [content_hash(path.read_bytes()) for path in paths], spec.dimension)
    fresh = network.embed(np.stack([prepared(path, spec.image_size) for path in paths]))
    worst = float((normalise(kept) * normalise(fresh)).sum(axis=1).min())
    return "" if worst >= _ALIKE else f"a vector has cosine {worst:.4f} to the same picture embedded alone"
