"""Benchmarks of searching: our store beside FAISS called directly, and product -> products beside other engines."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.client import HTTPConnection
from statistics import median
from typing import Any

import faiss
import numpy as np

from bench.engines import SERVERS, Nearest, hnswlib
from bench.figure import Bar, Figure
from bench.made import clustered, snapshot_of, vectors_like
from bench.material import Material
from bench.server import connected, products, served
from shared.index.stores import build_store, open_store
from shared.search.search import similar_to_product

_K = 10
_RIGHT = 0.98  # of brute force's first 10
Search = Callable[[int], Sequence[int]]
Answers = Sequence[Sequence[int]]


def store_figures(material: Material) -> Iterator[Figure]:
    """Measure the store that a snapshot of that many vectors gets, beside FAISS's exact index."""
    folder, sizes = material.work / "store", material.sizes
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vectors, queries = vectors_like(sizes.vectors, sizes.dimension, sizes.queries)
    build_store("faiss", vectors, folder)
    store, exact = open_store("faiss", folder), faiss.IndexFlatIP(sizes.dimension)
    exact.add(vectors)

    def asked(index: Any, number: int) -> list[int]:
        rows: list[int] = index.search(queries[number : number + 1], _K)[1][0].tolist()
        return rows

    (mine, found), (theirs, truth) = _race(partial(asked, store), partial(asked, exact), range(sizes.queries))
    recall, name = _recall(found, truth), f"{sizes.vectors:,} x {sizes.dimension}"
    wrong, size = _wrong(recall), sum(path.stat().st_size for path in folder.iterdir())
    within = Bar(3, most=True, absolute=True)
    yield Figure(f"{name}: recall@10", recall, "", "IndexFlatIP", 1, Bar(_RIGHT))
    yield Figure(f"{name}: p50 of search", mine, "ms", "IndexFlatIP", theirs, within, wrong)
    yield Figure(f"{name}: bytes", size / 1e6, "MB", "float32", vectors.nbytes / 1e6, Bar(0.6, most=True), wrong)
    shutil.rmtree(folder)


def product_figures(material: Material) -> Iterator[Figure]:
    """Measure product -> products from a snapshot: called directly beside libraries, over HTTP beside servers."""
    sizes = material.sizes
    data, snapshot = snapshot_of(material.work, sizes.few)
    vectors, _ = clustered(sizes.few)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    path = f"/v1/{snapshot.manifest.partition}/products/p%d/similar?k={_K}"
    asked = np.random.default_rng(2).choice(len(vectors), min(sizes.queries, len(vectors)), replace=False).tolist()

    def brute(row: int, k: int) -> list[int]:
        rows: list[int] = exact.search(vectors[row : row + 1], k)[1][0].tolist()
        return rows

    def figure(how: str, ours: Search, peer: str, nearest: Nearest, bar: Bar | None = None) -> Figure:
        (mine, found), (theirs, others) = _race(ours, partial(_others, nearest), asked)
        wrong, note = _wrong(_recall(found, truth)), f"the peer's recall@10 is {_recall(others, truth):.3f}"
        return Figure(f"{name}, {how}: p50", mine, "ms", peer, theirs, bar, wrong, note)

    def called(row: int) -> list[int]:
        return [int(found.image.product_id[1:]) for found in similar_to_product(snapshot, f"p{row}")]

    name, truth = f"product -> products, {sizes.few:,} products", [_others(brute, row) for row in asked]
    yield figure("called directly", called, "IndexFlatIP", brute)
    with hnswlib(vectors) as nearest:
        yield figure("called directly", called, "hnswlib", nearest)
    with served(data, workers=2) as server:
        for peer, engine in SERVERS.items():
            with engine(vectors) as nearest, connected(server.port) as connection:
                over_http = partial(_over_http, connection, path)
                yield figure("over HTTP", over_http, peer, nearest, Bar(1, most=True))


FIGURES = (store_figures, product_figures)


def _race(ours: Search, theirs: Search, questions: Sequence[int]) -> tuple[tuple[float, Answers], ...]:
    """Ask both the same queries in turns; return the median milliseconds and the answers of each."""
    seen: tuple[list[tuple[float, Sequence[int]]], ...] = ([], [])
    for question in questions:
        for search, kept in zip((ours, theirs), seen, strict=True):
            start = time.perf_counter()
            answer = search(question)
            kept.append((1000 * (time.perf_counter() - start), answer))
    return tuple((median(taken for taken, _ in kept), [answer for _, answer in kept]) for kept in seen)


def _over_http(connection: HTTPConnection, path: str, row: int) -> list[int]:
    return [int(product[1:]) for product in products(connection, path % row)]


def _recall(answers: Answers, truth: Answers) -> float:
    """The share of the true answers that are among these."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(answers, truth, strict=True)]))


def _wrong(recall: float) -> str:
    return "" if recall >= _RIGHT else f"only {recall:.3f} of brute force's first {_K} are found"


def _others(nearest: Nearest, row: int) -> list[int]:
    """The rows nearest to one, without itself."""
    return [found for found in nearest(row, _K + 1) if found != row][:_K]
