"""Rank the nearest products of a view: each once, by its best image; equal scores in the catalog's order."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadQuestion
from shared.index.vector_store import VectorStore
from shared.search.hits import Hit
from shared.search.params import SearchParams
from shared.snapshot.verdicts import COMPARED, ONE_PICTURE, QueryKind, Verdicts, evidence
from shared.snapshot.view import SnapshotView
from shared.vectors.top_k import DIGITS, best_of_each
from shared.vectors.unit import Vectors


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best row of each of the nearest products `(n,)`, and its score, best first. `evidence` is compared with the
    verdicts' thresholds; `whole`: there are no other products."""

    rows: NDArray[np.integer]
    scores: Vectors
    evidence: NDArray[np.floating]
    whole: bool

    def where(self, kept: NDArray[np.bool_ | np.int64] | slice) -> "Ranking":
        """The ranking of those products alone, in that order."""
        return replace(self, rows=self.rows[kept], scores=self.scores[kept], evidence=self.evidence[kept])


def nearest_to(
    view: SnapshotView,
    store: VectorStore,
    queries: Vectors,
    k: int,
    params: SearchParams,
    kind: QueryKind,
    without: frozenset[int],
    asked: int | None = None,
) -> Ranking:
    """Rank the `k` products nearest to any of the unit vectors `(n, d)`, or the few that verdicts need, that `params`
    admit; `store` is the view's in the vectors' space, `asked` the product that the query is."""
    k = max(COMPARED, k)
    allowed = view.allowed(params.filter) if params.filter else None
    unwanted = without.union(numbers_of(view, params.exclude))
    rows, scores = _nearest(view, store, queries, k, unwanted, allowed)
    weighed: NDArray[np.floating] = scores if asked is None else product_evidence(view, asked, rows, scores)
    if kind is QueryKind.PHOTO and kind in view.verdicts:
        # A product does not compete for being itself, so the scores of its hits are the evidence. Hits of a photo
        # compete with all products, whether the parameters admit them or not.
        restricted = allowed is not None or unwanted
        weighed = evidence(scores, _nearest(view, store, queries, COMPARED, without, None)[1] if restricted else None)
    return alike_enough(view, Ranking(rows, scores, weighed, len(rows) < k), params, kind)


def product_evidence(
    view: SnapshotView, asked: int, rows: NDArray[np.integer], scores: Vectors
) -> NDArray[np.floating]:
    """The evidence `(n,)` for the hits of a product, `rows` `(n,)`: their scores, but for those that show its very
    picture."""
    twice = view.duplicates.of_product(asked)
    if not len(twice):
        return scores
    return np.where(np.isin(view.products.owners(rows), twice), np.float32(ONE_PICTURE), scores)


def alike_enough(view: SnapshotView, ranking: Ranking, params: SearchParams, kind: QueryKind) -> Ranking:
    """Cut the ranking where products are no longer as alike as `params` require."""
    kept = ranking.scores >= params.min_score
    if params.verdict:
        kept &= ranking.evidence.astype(np.float64) >= verdicts_of(view, kind).least(params.verdict)
    return ranking if kept.all() else replace(ranking.where(kept), whole=True)


def verdicts_of(view: SnapshotView, kind: QueryKind) -> Verdicts:
    """The verdicts for a kind of query. Raises `BadQuestion` if there are none."""
    if kind is QueryKind.MIXED:
        raise BadQuestion(
            "verdict is asked of several examples; it is known of one product or one photo. Leave it out."
        )
    if kind not in view.verdicts:
        raise BadQuestion("This snapshot does not know what a variant is: its verdicts were not fitted. Index again.")
    return view.verdicts[kind]


def numbers_of(view: SnapshotView, product_ids: Iterable[str]) -> list[int]:
    """The numbers of the products with these ids, if they are there."""
    found = map(view.products.find, product_ids)
    return [number for number in found if number is not None]


def page_of(view: SnapshotView, ranking: Ranking, kind: QueryKind, params: SearchParams) -> list[Hit]:
    """The hits of a ranking that `params` select."""
    return hits_of(view, ranking.where(slice(params.offset, params.last)), kind, params.offset + 1)


def hits_of(view: SnapshotView, ranking: Ranking, kind: QueryKind, first: int = 1) -> list[Hit]:
    """All of a ranking as hits, whose ranks begin with `first`."""
    verdicts, line = view.verdicts.get(kind), view.products.line
    found = zip(ranking.rows.tolist(), ranking.scores.tolist(), ranking.evidence.tolist(), strict=True)
    return [
        Hit(rank, round(score, DIGITS), line(row), verdicts.of(weight) if verdicts else None, row)
        for rank, (row, score, weight) in enumerate(found, first)
    ]


def _nearest(
    view: SnapshotView,
    store: VectorStore,
    queries: Vectors,
    k: int,
    without: frozenset[int],
    allowed: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], Vectors]:
    """The best rows of the `k` nearest products, and their scores, best first."""
    table = view.products
    count = store.count if allowed is None else int(np.count_nonzero(allowed))
    if not count:  # nothing is allowed, or all of it was deleted or is unavailable
        return np.empty(0, np.int64), np.empty(0, np.float32)
    fetch = min(count, 4 * (k + len(without)) + 64)
    while True:
        scores, rows = store.search(queries, fetch, allowed)
        # A product that was not fetched scores at most this, so products above it are final.
        floor = float(scores[:, -1].max().round(DIGITS))
        best_scores, best_rows = best_of_each(scores.round(DIGITS).ravel(), rows.ravel(), table.owners(rows.ravel()))
        if without:
            others = ~np.isin(table.owners(best_rows), list(without))
            best_scores, best_rows = best_scores[others], best_rows[others]
        if fetch == count or int((best_scores > floor).sum()) >= k:
            return best_rows[:k], best_scores[:k]
        fetch = min(count, 2 * fetch)
