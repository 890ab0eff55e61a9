"""Answers over HTTP: against a route of fixed bytes under the same gunicorn, and against calling the code directly."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import faiss
import numpy as np

from bench.config import BenchConfig, Sizes
from bench.figure import Bar, Figure, interleaved
from bench.gunicorn import Server, served, served_bytes
from bench.indexing import index
from bench.made import snapshot_of
from bench.material import material
from bench.wrk import Load, load, missing
from shared.errors import RunStopped
from shared.images import decode
from shared.partition import Partition
from shared.refusals import Refusal
from shared.similar import similar_to_photo
from shared.snapshot import Snapshot

_WORKERS = 2
_ASKED = 1000
_BATCH = 8


def figures(config: BenchConfig) -> Iterator[Figure]:
    """All figures of serving."""
    yield from product_figures(config.work, config.sizes)
    yield from photo_figures(config)


def product_figures(work: Path, sizes: Sizes) -> Iterator[Figure]:
    """Product -> products under load: against fixed bytes, and from a large snapshot against a small one."""
    name = f"product -> products, {sizes.few:,} products"
    if reason := missing():
        yield Figure(f"{name}: under load", peer="fixed bytes", skipped=reason)
        return
    few, many = (snapshot_of(work / f"serve{count}", count) for count in (sizes.few, sizes.many))
    with served(work / f"serve{sizes.few}", _WORKERS) as small, served(work / f"serve{sizes.many}", _WORKERS) as large:
        wrong = _wrong(small, few) or _wrong(large, many)
        with small.client() as client:
            body = client.ask(_paths(few)[0])[1]
        with served_bytes(body, _WORKERS) as fixed:
            ours, theirs, larger = _loads(
                sizes,
                (small, _paths(few)),
                (fixed, ["/fixed"]),
                (large, _paths(many)),
            )
    note = f"p50 {ours.p50:.2f} ms, fixed bytes {theirs.p50:.2f} ms; 8 connections, {_WORKERS} workers"
    yield Figure(name, ours.rate, "requests/s", "fixed bytes", theirs.rate, Bar(0.85), wrong, note=note)
    yield Figure(f"{name}: p99", ours.p99, "ms", "fixed bytes", theirs.p99, Bar(2, most=True), wrong, note=note)
    large_name = f"product -> products, {sizes.many:,} products"
    yield Figure(large_name, larger.rate, "requests/s", f"{sizes.few:,} products", ours.rate, Bar(0.9), wrong)


def photo_figures(config: BenchConfig) -> Iterator[Figure]:
    """Photo -> products: one client against the code called directly, eight against embedding alone."""
    shown, data, sizes = material(config), config.work / "photos", config.sizes
    partition = Partition("bench", "photos")
    index(data, partition, shown.catalog[: sizes.images])
    snapshot = Snapshot.current(data, partition)
    network = snapshot.load_embedder()
    photo = (shown.photos or shown.catalog)[0].path
    content, path = photo.read_bytes(), f"/v1/{partition}/search"
    picture = decode(content)
    if isinstance(picture, Refusal):
        raise RunStopped(f"{photo} is no picture: {picture.detail}")
    views = 4 if snapshot.projection else 1
    batch = np.repeat(shown.pictures(1, snapshot.spec.image_size), _BATCH, axis=0)
    with served(data, 1, until="/readyz") as server, server.client() as client:
        truth = [found.image.product_id for found in similar_to_photo(snapshot, network, content)]
        wrong = "" if client.products(path, content) == truth else "the served answer is not the one found directly"
        mine, theirs = interleaved(
            max(5, sizes.rounds),
            lambda: client.products(path, content),
            lambda: similar_to_photo(snapshot, network, content),
        )
        name, peer = "photo -> products, one client: p50", "called directly"
        yield Figure(name, 1000 * mine, "ms", peer, 1000 * theirs, Bar(1.15, most=True), wrong)
        name, peer = "photo -> products, 8 clients", f"embedding at batch {_BATCH}"
        if reason := missing():
            yield Figure(name, peer=peer, skipped=reason)
            return
        rates, seconds = [], []
        for _ in range(sizes.rounds):
            rates.append(load(server.port, [path], max(3, sizes.seconds), photo).rate)
            seconds += interleaved(3, lambda: network.embed(batch))
    limit = _BATCH / median(seconds) / views
    note = f"a photo is seen {views} ways"
    yield Figure(name, median(rates), "photos/s", peer, limit, Bar(0.85), wrong, note=note)


def _loads(sizes: Sizes, *asked: tuple[Server, Sequence[str]]) -> list[Load]:
    """The median load of each, in turns; the first round warms up."""
    seen: list[list[Load]] = [[] for _ in asked]
    for number, (loads, (server, paths)) in itertools.product(range(sizes.rounds + 1), zip(seen, asked, strict=True)):
        found = load(server.port, paths, sizes.seconds if number else 1)
        if number:
            loads.append(found)
    return [
        Load(median(one.rate for one in loads), median(one.p50 for one in loads), median(one.p99 for one in loads))
        for loads in seen
    ]


def _paths(snapshot: Snapshot) -> list[str]:
    """Questions about products from all over the snapshot."""
    count = snapshot.products.count
    asked = np.random.default_rng(3).choice(count, min(_ASKED, count), replace=False)
    return [f"/v1/{snapshot.manifest.partition}/products/p{product}/similar?k=10" for product in asked.tolist()]


def _wrong(server: Server, snapshot: Snapshot) -> str:
    """In what served answers differ from brute force, where they do."""
    vectors = snapshot.store.vectors(0, snapshot.store.count)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    with server.client() as client:
        for path in _paths(snapshot)[:20]:
            row = int(path.split("/")[5][1:])
            near = exact.search(vectors[row : row + 1], 11)[1][0].tolist()
            if set(client.products(path)) != {f"p{other}" for other in near if other != row}:
                return f"{path} is not answered as by brute force"
    return ""
