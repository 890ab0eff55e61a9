"""Benchmarks of answers over HTTP: beside a route of fixed bytes under the same gunicorn, and beside calling the code
directly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from bench.figure import Bar, Figure, interleaved
from bench.made import snapshot_of
from bench.material import PHONE, Material, prepared
from bench.peers import fastest
from bench.pipeline import PARTITION, indexed
from bench.process import Running
from bench.server import CONNECTIONS, Load, ask, connected, load, products, served, served_bytes, served_to_keys
from shared.embedding.embedder import Embedder
from shared.search.photo_query import photo_query
from shared.search.search import similar_to_photo
from shared.snapshot.reader import Snapshot

_WORKERS = 2
_ASKED, _CHECKED = 10_000, 100
_PHONES = 8  # photos as a phone takes them
_SEARCH = f"/v1/{PARTITION}/search"


def product_figures(material: Material) -> Iterator[Figure]:
    """Measure product -> products under load: beside fixed bytes, and from a large snapshot beside a small one."""
    sizes = material.sizes
    name, more = (f"product -> products, {count:,} products" for count in (sizes.few, sizes.many))
    (small, few), (large, many) = (snapshot_of(material.work, count) for count in (sizes.few, sizes.many))
    with (
        served(small, _WORKERS) as here,
        served(large, _WORKERS) as there,
        served_to_keys(small, _WORKERS) as (guarded, key),
    ):
        wrong = _wrong(here, few) or _wrong(there, many)
        with connected(here.port) as connection:
            body = ask(connection, _paths(few)[0])[1]
        with served_bytes(body, _WORKERS) as fixed:
            asked = (
                (here, _paths(few), ""),
                (fixed, ["/fixed"], ""),
                (there, _paths(many), ""),
                (guarded, _paths(few), key),
            )
            for server, paths, shown in asked:  # warms up
                load(server.port, paths, 1, key=shown)
            rounds = [
                [load(server.port, paths, sizes.seconds, key=shown) for server, paths, shown in asked]
                for _ in range(sizes.rounds)
            ]
    ours, theirs, larger, known = (Load(*np.median(loads, axis=0).tolist()) for loads in zip(*rounds, strict=True))
    note = f"p50 {ours.p50:.2f} ms, fixed bytes {theirs.p50:.2f} ms; {CONNECTIONS} connections, {_WORKERS} workers"
    yield Figure(name, ours.rate, "requests/s", "fixed bytes", theirs.rate, Bar(0.85), wrong, note)
    yield Figure(f"{name}: p99", ours.p99, "ms", "fixed bytes", theirs.p99, Bar(2, most=True), wrong, note)
    yield Figure(more, larger.rate, "requests/s", f"{sizes.few:,} products", ours.rate, Bar(0.9), wrong)
    keyed = "product -> products with keys and rates"
    yield Figure(keyed, known.rate, "requests/s", "fixed bytes", theirs.rate, Bar(0.6), wrong)


def photo_figures(material: Material) -> Iterator[Figure]:
    """Measure photo -> products: one client beside the code called directly, eight beside embedding alone."""
    sizes, photos, (data, snapshot) = material.sizes, material.questions, indexed(material)
    network, phone = snapshot.load_embedder(), material.sized(photos[:_PHONES], PHONE)
    batch = prepared(list(islice(cycle(photos), CONNECTIONS)), snapshot.spec.image_size)
    alone = fastest(network, batch)
    with served(data, _WORKERS, until="/readyz") as server:
        asking = _Asking(server, snapshot, network, 10 * sizes.rounds)
        yield asking.figure("photo", photos, Bar(1.15, most=True))
        yield asking.figure(f"photo of {PHONE}", phone)
        wrong, rates, taken = asking.wrong(photos), [], []
        for _ in range(sizes.rounds):
            rates.append(load(server.port, [_SEARCH], max(3, sizes.seconds), photos).rate)
            taken += interleaved(5, lambda: alone.embed(batch))
    seen = snapshot.spec.views if snapshot.several_views else 1
    note, limit = f"a photo is seen {seen} ways; {_WORKERS} workers", CONNECTIONS / median(taken) / seen
    name, peer = f"photo -> products, {CONNECTIONS} clients", f"embedding alone, {alone.name}"
    yield Figure(name, median(rates), "photos/s", peer, limit, Bar(0.85), wrong, note)


@dataclass(frozen=True, slots=True)
class _Asking:
    """One client of a server, and the same code called directly, so many times."""

    server: Running
    snapshot: Snapshot
    network: Embedder
    rounds: int

    def figure(self, what: str, photos: Sequence[Path], bar: Bar | None = None) -> Figure:
        """The figure of the p50 of both."""
        contents = [photo.read_bytes() for photo in photos]
        ours, directly = cycle(contents), cycle(contents)
        with connected(self.server.port) as connection:
            mine, theirs = interleaved(
                self.rounds,
                lambda: products(connection, _SEARCH, next(ours)),
                lambda: photo_query(self.snapshot, self.network, next(directly)),
            )
        name, peer = f"{what} -> products, one client: p50", "decode and embed, called directly"
        note = f"{np.mean([len(content) for content in contents]) / 1e6:.2f} MB each"
        return Figure(name, 1000 * mine, "ms", peer, 1000 * theirs, bar, self.wrong(photos), note)

    def wrong(self, photos: Sequence[Path]) -> str:
        """Tell whether a served answer differs from the code's."""
        with connected(self.server.port) as connection:
            for photo in photos:
                found = similar_to_photo(self.snapshot, self.network, photo.read_bytes())
                if products(connection, _SEARCH, photo.read_bytes()) != [one.image.product_id for one in found]:
                    return "a served answer is not the one found directly"
        return ""


FIGURES = (product_figures, photo_figures)


def _paths(snapshot: Snapshot) -> list[str]:
    """URLs of products from all over the snapshot."""
    count = snapshot.products.count
    asked = np.random.default_rng(3).choice(count, min(_ASKED, count), replace=False)
    return [f"/v1/{snapshot.manifest.partition}/products/p{product}/similar?k=10" for product in asked.tolist()]


def _wrong(server: Running, snapshot: Snapshot) -> str:
    """Say how served answers differ from the known neighbours, if they do."""
    with connected(server.port) as connection:
        for path in _paths(snapshot)[:_CHECKED]:
            near = snapshot.neighbour_table.rows[int(path.split("/")[5][1:]), :10].tolist()
            if products(connection, path) != [f"p{row}" for row in near]:
                return f"{path} is not answered with the nearest"
    return ""
