"""Vectors -> answers: our store against FAISS called directly, and product -> products against other engines."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import faiss
import numpy as np

from bench.config import BenchConfig, Sizes
from bench.engines import ENGINES, Nearest, Unavailable
from bench.figure import Bar, Figure
from bench.gunicorn import served
from bench.made import snapshot_of, vectors_like
from shared.similar import similar_to_product
from shared.stores import build, open_store
from shared.vectors import Vectors

_K = 10
_RIGHT = 0.98  # of brute force's first 10
Search = Callable[[int], Sequence[int]]


def figures(config: BenchConfig) -> Iterator[Figure]:
    """All figures of search."""
    yield from store_figures(config.work / "store", config.sizes)
    yield from product_figures(config.work / "search", config.sizes)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The median milliseconds of a question, and the answers."""

    p50: float
    answers: Sequence[Sequence[int]]

    def recall(self, truth: "_Seen") -> float:
        """How many of the true answers are among these."""
        shares = [len(set(a) & set(b)) / len(b) for a, b in zip(self.answers, truth.answers, strict=True)]
        return float(np.mean(shares))


def store_figures(folder: Path, sizes: Sizes, ours: Search | None = None) -> Iterator[Figure]:
    """The store that a snapshot of that many vectors gets, against FAISS's exact index. `ours` is asked in the store's
    place, where given."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vectors = vectors_like(sizes.vectors, sizes.dimension)
    queries = vectors_like(sizes.queries, sizes.dimension, seed=1)
    exact = faiss.IndexFlatIP(sizes.dimension)
    exact.add(vectors)
    build("faiss", vectors, folder)
    store = open_store(folder)

    def asked(number: int) -> list[int]:
        rows: list[int] = store.search(queries[number : number + 1], _K)[1][0].tolist()
        return rows

    def directly(number: int) -> list[int]:
        rows: list[int] = exact.search(queries[number : number + 1], _K)[1][0].tolist()
        return rows

    mine, theirs = _race(ours or asked, directly, range(sizes.queries))
    recall, name = mine.recall(theirs), f"{sizes.vectors:,} x {sizes.dimension}"
    wrong = _wrong(recall)
    within = Bar(3, most=True, absolute=True)
    yield Figure(f"{name}: recall@10", recall, bar=Bar(_RIGHT, absolute=True), wrong=wrong)
    yield Figure(f"{name}: p50 of search", mine.p50, "ms", "IndexFlatIP", theirs.p50, within, wrong)
    size = sum(path.stat().st_size for path in folder.iterdir())
    yield Figure(f"{name}: bytes", size / 1e6, "MB", "float32", vectors.nbytes / 1e6, Bar(0.6, most=True), wrong)
    shutil.rmtree(folder)


def product_figures(data: Path, sizes: Sizes) -> Iterator[Figure]:
    """Product -> products from a snapshot: called directly against libraries, over HTTP against servers."""
    snapshot = snapshot_of(data, sizes.few)
    vectors = snapshot.store.vectors(0, snapshot.store.count)
    asked = np.random.default_rng(2).choice(sizes.few, min(sizes.queries, sizes.few), replace=False).tolist()
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)

    def brute(row: int) -> list[int]:
        return _others(exact.search(vectors[row : row + 1], _K + 1)[1][0].tolist(), row)

    def called(row: int) -> list[int]:
        return [int(found.image.product_id[1:]) for found in similar_to_product(snapshot, f"p{row}")]

    with served(data, workers=1) as server, server.client() as client:
        path = f"/v1/{snapshot.manifest.partition}/products/"

        def over_http(row: int) -> list[int]:
            return [int(product[1:]) for product in client.products(f"{path}p{row}/similar?k={_K}")]

        client.products(f"{path}p0/similar")
        truth = _Seen(0, [brute(row) for row in asked])
        mine, theirs = _race(called, brute, asked)
        yield _figure("called directly", sizes, mine, "IndexFlatIP", theirs, truth)
        for name, engine in ENGINES.items():
            way, ours = ("called directly", called) if engine.library else ("over HTTP", over_http)
            try:
                with engine.open(vectors) as nearest:
                    mine, theirs = _race(ours, partial(_asked, nearest, vectors), asked)
            except Unavailable as reason:
                yield Figure(_name(way, sizes), peer=name, skipped=str(reason))
            else:
                yield _figure(way, sizes, mine, name, theirs, truth)


def _figure(way: str, sizes: Sizes, ours: _Seen, peer: str, theirs: _Seen, truth: _Seen) -> Figure:
    wrong, note = _wrong(ours.recall(truth)), f"the peer's recall@10 is {theirs.recall(truth):.3f}"
    bar = Bar(1, most=True) if way == "over HTTP" else None
    return Figure(_name(way, sizes), ours.p50, "ms", peer, theirs.p50, bar, wrong, note=note)


def _name(way: str, sizes: Sizes) -> str:
    return f"product -> products, {sizes.few:,}, {way}: p50"


def _wrong(recall: float) -> str:
    return "" if recall >= _RIGHT else f"only {recall:.3f} of brute force's first {_K} are found"


def _race(ours: Search, theirs: Search, questions: Sequence[int]) -> tuple[_Seen, _Seen]:
    """The same questions to both, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    answers: tuple[list[Sequence[int]], list[Sequence[int]]] = ([], [])
    for question in questions:
        for at, search in enumerate((ours, theirs)):
            start = time.perf_counter()
            answers[at].append(search(question))
            times[at].append(1000 * (time.perf_counter() - start))
    return _Seen(median(times[0]), answers[0]), _Seen(median(times[1]), answers[1])


def _asked(nearest: Nearest, vectors: Vectors, row: int) -> list[int]:
    return _others(nearest(vectors[row], _K + 1), row)


def _others(rows: Sequence[int], row: int) -> list[int]:
    """Without the one that asks."""
    return [found for found in rows if found != row][:_K]
