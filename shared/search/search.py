"""The questions over one open snapshot. No HTTP in it: serving, evaluating and precomputing ask the same code.

A product counts once, by its best image; the asked product is never among its own answers; equal scores stand in the
catalog's order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import Embedder
from shared.errors import BadQuestion
from shared.search.hits import Hit
from shared.search.params import TEN, SearchParams
from shared.search.queries import Example, asking, photo_example
from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import Verdicts, evidence
from shared.timing import stage
from shared.vectors.top_k import DIGITS, best_of_each
from shared.vectors.unit import Vectors


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The best row of each of the nearest products `(n,)`, and its score, best first; `evidence` is what verdicts go
    by; `whole`: there are no others."""

    rows: NDArray[np.integer]
    scores: Vectors
    evidence: NDArray[np.floating]
    whole: bool

    def where(self, kept: NDArray[np.bool_ | np.int64] | slice) -> "_Ranking":
        """Those products alone, in that order."""
        return replace(self, rows=self.rows[kept], scores=self.scores[kept], evidence=self.evidence[kept])


def similar_to_product(snapshot: Snapshot, product_id: str, wanted: SearchParams = TEN) -> list[Hit]:
    """The products that look most like this one. Raises `UnknownProduct`."""
    product = snapshot.number(product_id)
    if snapshot.overlay:
        return _since_changed(snapshot, product_id, product, wanted)
    table = snapshot.neighbours
    whole = table.rows.shape[1] == snapshot.products.count - 1
    if wanted.plain and (whole or wanted.k <= table.rows.shape[1]):
        rows, scores = table.rows[product, : wanted.k], table.scores[product, : wanted.k]
        return _answers(snapshot, rows, scores, scores, "product")
    rows, scores = table.rows[product], table.scores[product]
    return _near(snapshot, product, _Ranking(rows, scores, scores, whole), wanted)


def _since_changed(snapshot: Snapshot, product_id: str, product: int, wanted: SearchParams) -> list[Hit]:
    """The same under live changes: what is pinned first, of what is wanted, then the others."""
    assert snapshot.overlay
    rows, scores, apart = snapshot.overlay.pinned(product_id, product)
    pinned = _Ranking(rows, scores, scores, whole=False)
    kept = ~np.isin(snapshot.products.owners(rows), _numbers(snapshot, wanted.exclude))
    if wanted.filter:
        kept &= snapshot.allowed(wanted.filter)[rows]
    pinned = _alike(snapshot, pinned.where(kept), wanted, "product")
    first = _answers(snapshot, pinned.rows, pinned.scores, pinned.evidence, "product")
    if left := max(0, wanted.last - len(first)):
        near = _Ranking(*snapshot.overlay.near(product, apart))
        first += _near(snapshot, product, near, replace(wanted, k=left, offset=0), frozenset(apart))
    page = first[wanted.offset : wanted.last]
    return [answer._replace(rank=rank) for rank, answer in enumerate(page, wanted.offset + 1)]


def _near(
    snapshot: Snapshot, product: int, table: _Ranking, wanted: SearchParams, without: frozenset[int] = frozenset()
) -> list[Hit]:
    """The answers to a product: first what a table knows of its nearest, then what a search finds beyond.

    The two round a score differently now and then. So a product has one rank, whatever page it is asked for on, and
    what was found beyond scores no more than what the table knows.
    """
    apart = without | {product}
    if wanted.arranged or wanted.filter:
        asks = asking(snapshot.products, snapshot.store, product)
        return similar_to_vectors(snapshot, asks, wanted, "product", apart)
    owners = snapshot.products.owners(table.rows)
    ranking = _alike(snapshot, table.where(~np.isin(owners, _numbers(snapshot, wanted.exclude))), wanted, "product")
    if ranking.whole or len(ranking.rows) >= wanted.last:
        return _page(snapshot, ranking, "product", wanted)
    found = _answers(snapshot, ranking.rows, ranking.scores, ranking.evidence, "product")
    beyond = replace(wanted, k=wanted.last - len(found), offset=0)
    asks = asking(snapshot.products, snapshot.store, product)
    known, least = len(found), found[-1].score if found else 1.0
    found += similar_to_vectors(snapshot, asks, beyond, "product", apart.union(owners.tolist()))
    page = enumerate(found[wanted.offset : wanted.last], wanted.offset + 1)
    return [
        answer._replace(rank=rank, score=min(answer.score, least) if rank > known else answer.score)
        for rank, answer in page
    ]


def similar_to_photo(snapshot: Snapshot, embedder: Embedder, photo: bytes, wanted: SearchParams = TEN) -> list[Hit]:
    """The products that look most like this photo. Raises `BadPicture`."""
    return similar_to(snapshot, photo_example(snapshot, embedder, photo), wanted)


def similar_to(snapshot: Snapshot, example: Example, wanted: SearchParams = TEN) -> list[Hit]:
    """The products that look most like this, whatever it is."""
    return similar_to_vectors(snapshot, example.vector, wanted, example.question, example.products)


@stage("search")
def similar_to_vectors(
    snapshot: Snapshot,
    queries: Vectors,
    wanted: SearchParams = TEN,
    question: str = "photo",
    without: frozenset[int] = frozenset(),
) -> list[Hit]:
    """The products nearest to any of the unit vectors `(n, d)`, without the products of those numbers."""
    if not wanted.arranged:
        ranking = _ranking(snapshot, queries, wanted.last, wanted, question, without)
        return _page(snapshot, ranking, question, wanted)
    fold = _verdicts(snapshot, "product").variant if wanted.collapse else np.inf
    chosen = np.zeros(0, np.int64)  # products: cells that are visited for more answers may change the ranking
    upto = 10
    while True:
        # The first 10 are chosen from as many candidates whatever is wanted, and so on, so that pages fit together.
        ranking = _ranking(snapshot, queries, 4 * upto + 16, wanted, question, without)
        vectors = np.concatenate(
            [snapshot.store.vectors(row, row + 1) for row in ranking.rows.tolist()] or [queries[:0]]
        )
        count = wanted.last if ranking.whole else min(upto, wanted.last)
        owners = snapshot.products.owners(ranking.rows)
        places = {owner: place for place, owner in enumerate(owners.tolist())}
        before = [places[owner] for owner in chosen.tolist() if owner in places]
        now = np.array(arranged(ranking.scores, vectors, count, fold, wanted.diversity, before), np.int64)
        if len(now) == wanted.last or ranking.whole:
            return _page(snapshot, ranking.where(now), question, wanted)
        chosen = owners[now]
        upto *= 4


def arranged(
    scores: Vectors, vectors: Vectors, k: int, fold: float, diversity: float, before: Sequence[int] = ()
) -> list[int]:
    """Which of the candidates, best first, `(n,)` and `(n, d)`, to show, in which order, after those of `before`.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998); what is as near as `fold` to one that was chosen
    is left out.
    """
    chosen = list(before)
    left = np.ones(len(scores), bool)
    nearest = np.zeros(len(scores), np.float32)
    if chosen:
        nearest = (vectors @ vectors[chosen].T).max(axis=1)
        left = nearest < fold
        left[chosen] = False
    while len(chosen) < k and left.any():
        worth = (1 - diversity) * scores - diversity * nearest
        best = int(np.where(left, worth, -np.inf).argmax())
        likeness = vectors @ vectors[best]
        nearest = np.maximum(nearest, likeness) if chosen else likeness
        chosen.append(best)
        left &= nearest < fold
        left[best] = False
    return chosen


def _verdicts(snapshot: Snapshot, question: str) -> Verdicts:
    verdicts = snapshot.verdicts.get(question)
    if not question:
        raise BadQuestion(
            "verdict is asked of several examples; it is known of one product or one photo. Leave it out."
        )
    if verdicts is None:
        raise BadQuestion("This snapshot does not know what a variant is: its verdicts were not fitted. Index again.")
    return verdicts


def _numbers(snapshot: Snapshot, product_ids: Iterable[str]) -> list[int]:
    found = map(snapshot.products.find, product_ids)
    return [number for number in found if number is not None]


def _ranking(
    snapshot: Snapshot, queries: Vectors, k: int, wanted: SearchParams, question: str, without: frozenset[int]
) -> _Ranking:
    """The `k` nearest products, at least 2, of those that are wanted and alike enough."""
    k = max(2, k)
    allowed = snapshot.allowed(wanted.filter) if wanted.filter else None
    unwanted = without.union(_numbers(snapshot, wanted.exclude))
    rows, scores = _nearest(snapshot, queries, k, unwanted, allowed)
    weighed: NDArray[np.floating] = scores
    if question == "photo" and question in snapshot.verdicts:
        # A product does not compete for being itself, so its answers' scores are the evidence. A photo's answers
        # compete with all products, wanted or not.
        restricted = allowed is not None or unwanted
        weighed = evidence(scores, _nearest(snapshot, queries, 2, without, None)[1] if restricted else scores[:2])
    return _alike(snapshot, _Ranking(rows, scores, weighed, len(rows) < k), wanted, question)


def _alike(snapshot: Snapshot, ranking: _Ranking, wanted: SearchParams, question: str) -> _Ranking:
    """The ranking as far as answers are as alike as is wanted."""
    kept = ranking.scores >= wanted.min_score
    if wanted.verdict:
        kept &= ranking.evidence.astype(np.float64) >= _verdicts(snapshot, question).least(wanted.verdict)
    return ranking if kept.all() else replace(ranking.where(kept), whole=True)


def _nearest(
    snapshot: Snapshot, queries: Vectors, k: int, without: frozenset[int], allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], Vectors]:
    """The best rows of the `k` nearest products, and their scores, best first."""
    store, table = snapshot.store, snapshot.products
    count = store.count if allowed is None else int(np.count_nonzero(allowed))
    if not count:  # nothing is allowed, or all of it was deleted or is unavailable
        return np.empty(0, np.int64), np.empty(0, np.float32)
    fetch = min(count, 4 * (k + len(without)) + 64)
    while True:
        scores, rows = store.search(queries, fetch, allowed)
        # What was not fetched scores at most this, so products above it are final.
        floor = float(scores[:, -1].max().round(DIGITS))
        best_scores, best_rows = best_of_each(scores.round(DIGITS).ravel(), rows.ravel(), table.owners(rows.ravel()))
        if without:
            others = ~np.isin(table.owners(best_rows), list(without))
            best_scores, best_rows = best_scores[others], best_rows[others]
        if fetch == count or int((best_scores > floor).sum()) >= k:
            return best_rows[:k], best_scores[:k]
        fetch = min(count, 2 * fetch)


def _page(snapshot: Snapshot, ranking: _Ranking, question: str, wanted: SearchParams) -> list[Hit]:
    """The wanted part of the ranking."""
    page = ranking.where(slice(wanted.offset, wanted.last))
    return _answers(snapshot, page.rows, page.scores, page.evidence, question, wanted.offset + 1)


def _answers(
    snapshot: Snapshot,
    rows: NDArray[np.integer],
    scores: Vectors,
    weighed: NDArray[np.floating],
    question: str,
    first: int = 1,
) -> list[Hit]:
    verdicts, line = snapshot.verdicts.get(question), snapshot.products.line
    return [
        Hit(rank, round(score, DIGITS), line(row), verdicts.of(weight) if verdicts else "", row)
        for rank, (row, score, weight) in enumerate(
            zip(rows.tolist(), scores.tolist(), weighed.tolist(), strict=True), first
        )
    ]
