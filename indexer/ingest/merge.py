"""Merge live changes into a catalog: a put product gets rows; rows of a deleted or replaced one are refused."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from indexer.catalog.parsing import Catalog, CatalogRow, RefusedRow
from indexer.ingest.cache import Cache
from indexer.ingest.download import Validators
from shared.live.journal import Journal
from shared.live.reading import UPLOADED, Change, Reading
from shared.refusals import Kind, Refusal
from shared.snapshot.manifest import LivePoint

_log = logging.getLogger(__name__)


def merge_live_changes(catalog: Catalog, journal: Journal, cache: Cache) -> tuple[Catalog, LivePoint | None]:
    """Merge the live changes; also return the last one, or None if there was none.

    Uploaded images go into the cache; so do those that lie at a URL, to stand in where they cannot be fetched. Damaged
    changes are left out, with a warning in the log. Raises `NotKept`.
    """
    with journal.reading() as reading:
        clock, whole = reading.clock(), (change for change in reading.changes() if _whole(change, reading))
        changes = {change.product_id: change for change in whole}
        refused = [RefusedRow(row, _why(changes[row.product_id])) for row in catalog.rows if row.product_id in changes]
        rows = [row for row in catalog.rows if row.product_id not in changes]
        numbers = count(catalog.count + 1)
        for change in changes.values():
            rows += _rows(change, reading, cache, numbers)
        if problem := journal.problem(reading):
            _log.warning("%s", problem)
    if not clock.seq:
        return catalog, None
    merged = replace(catalog, rows=tuple(rows), refused=(*catalog.refused, *refused))
    return merged, LivePoint(clock.journal, clock.seq)


def _whole(change: Change, reading: Reading) -> bool:
    return change.attributes is None or bool(reading.addresses(change.seq))


def _rows(change: Change, reading: Reading, cache: Cache, numbers: Iterator[int]) -> list[CatalogRow]:
    """A row for each image of a put product, with the numbers after the catalog's."""
    if change.attributes is None:
        return []
    rows = []
    for place, (image_id, url) in enumerate(reading.addresses(change.seq)):
        if url.startswith(UPLOADED) or not cache.known([url]):
            cache.record(url, Validators("", ""), cache.keep(reading.data(change.seq, place) or b""))
            cache.settle([url], usable=True)
        rows.append(CatalogRow(next(numbers), change.product_id, image_id, change.attributes, url))
    return rows


def _why(change: Change) -> Refusal:
    if change.attributes is None:
        return Refusal(Kind.DELETED, "The product was deleted live.")
    return Refusal(Kind.REPLACED, "The product was put live: its images there stand for this one.")
