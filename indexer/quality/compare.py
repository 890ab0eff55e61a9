"""Compare two snapshots: how far each product's first answers agree, as CSV and a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from indexer.ingest.cache import Cache
from indexer.ingest.csv_text import csv_text
from shared.errors import ConfigError
from shared.images.gallery import Row, Section, Tile, page
from shared.index.product_table import ProductImage
from shared.partition import Partition
from shared.search.search import similar_to_product
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.reader import Snapshot
from shared.storage.files import replace_atomically

_DEPTH, _PERSISTENCE = 10, 0.8
_SHOWN, _ANSWERS = 40, 6


@dataclass(frozen=True, slots=True)
class Change:
    """A product of both snapshots: how far its first 10 answers agree, 0 to 1, and its first answer in each."""

    product_id: str
    overlap: float
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Products of both snapshots, most changed first; and the ids of those that only one has."""

    kept: Sequence[Change]
    added: Sequence[str]
    removed: Sequence[str]

    @property
    def median(self) -> float:
        """The overlap of the median product; 1 if no product is in both."""
        return float(np.median([change.overlap for change in self.kept])) if self.kept else 1.0

    def __str__(self) -> str:
        moved = sum(change.before != change.after for change in self.kept)
        return (
            f"{len(self.kept):,} products are in both snapshots: {moved:,} have another first answer, and the median "
            f"overlap of the first {_DEPTH} is {self.median:.2f}. "
            f"{len(self.added):,} products were added, {len(self.removed):,} removed."
        )


def overlaps(before: Snapshot, after: Snapshot) -> Changes:
    """Compare the neighbour tables of two snapshots, whatever their networks and products.

    The measure is the rank-biased overlap, extrapolated from the first 10 answers: each next rank weighs 0.8 of the one
    before (Webber, Moffat and Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010).
    """
    old, new = _ids(before), _ids(after)
    numbers = {product: number for number, product in enumerate(dict.fromkeys([*old, *new]))}
    codes = np.array([numbers[product] for product in new])
    both = np.flatnonzero(codes < len(old))
    depth = min(_DEPTH, before.neighbour_table.rows.shape[1], after.neighbour_table.rows.shape[1])
    was = before.products.owners(before.neighbour_table.rows[codes[both], :depth].astype(np.int64))
    now = codes[after.products.owners(after.neighbour_table.rows[both, :depth].astype(np.int64))]
    # How many of the first d answers agree, for d = 1, 2, ..
    shared = np.diagonal((was[:, :, None] == now[:, None, :]).cumsum(axis=1).cumsum(axis=2), axis1=1, axis2=2)
    ranks = np.arange(1, depth + 1)
    weights = (1 - _PERSISTENCE) * _PERSISTENCE ** (ranks - 1.0)
    weights[-1:] += _PERSISTENCE**depth
    overlap = shared / ranks @ weights if depth else np.ones(len(both))
    names = list(numbers)
    kept = [
        Change(new[both[at]], round(float(overlap[at]), 4), *(names[row[at, 0]] if depth else "" for row in (was, now)))
        for at in np.argsort(overlap, kind="stable")
    ]
    return Changes(kept, [new[at] for at in np.flatnonzero(codes >= len(old))], list(set(old).difference(new)))


def show_changes(data: Path, partition: Partition, against: str | None, console: Console) -> None:
    """Compare the current snapshot with the one of that id, or the one that served before: `changes.csv`, `index.html`.

    Raises `ConfigError` where none did.
    """
    after = Snapshot.current(data, partition)
    against = against or PartitionFolder(data, partition).previous()
    if against in (None, after.id):
        raise ConfigError(f"No snapshot served before {after.id}. Give another one to compare with: AGAINST=.")
    before = Snapshot(PartitionFolder(data, partition).snapshot(against))
    found = overlaps(before, after)
    folder = data / "changes" / partition.department / partition.domain
    folder.mkdir(parents=True, exist_ok=True)
    rows = ((change.product_id, change.overlap, change.before, change.after) for change in found.kept)
    names = ["product_id_model", "overlap", "first_before", "first_after"]
    replace_atomically(folder / "changes.csv", csv_text(names, rows))
    moved = [change for change in found.kept[:_SHOWN] if change.overlap < 1]
    with Cache(data) as cache:
        sections = [_section(change, before, after, cache.picture) for change in moved]
        intro = f"{before.id} and {after.id}. {found} Most changed first; red answers left, green ones came."
        html = page("What changed?", intro, sections)
    (folder / "index.html").write_text(html, encoding="utf-8", errors="replace")
    console.print(f"{before.id} -> {after.id}", soft_wrap=True)
    console.print(str(found), soft_wrap=True)
    console.print(f"As pictures: {folder / 'index.html'}; all of them: {folder / 'changes.csv'}", soft_wrap=True)


def _section(change: Change, before: Snapshot, after: Snapshot, picture: Callable[[ProductImage], bytes]) -> Section:
    was, now = (similar_to_product(snapshot, change.product_id) for snapshot in (before, after))
    sides = (("before", before, was, now, "wrong"), ("after", after, now, was, "right"))
    rows = []
    for when, snapshot, answers, others, mark in sides:
        in_both = {answer.image.product_id for answer in others}
        tiles = [_tile(answer.image, picture, f" · {answer.score:.2f}") for answer in answers[:_ANSWERS]]
        marked = [
            tile if answer.image.product_id in in_both else replace(tile, mark=mark)
            for tile, answer in zip(tiles, answers, strict=False)
        ]
        table = snapshot.products
        own = _tile(table.image(int(table.starts[table.find(change.product_id) or 0])), picture)
        title = f"{own.caption}: overlap {change.overlap:.2f}"
        rows.append(Row(replace(own, caption=when), marked))
    return Section(title, rows)


def _tile(image: ProductImage, picture: Callable[[ProductImage], bytes], score: str = "") -> Tile:
    return Tile(picture(image), image.attributes.get("name") or image.product_id, image.product_id + score)


def _ids(snapshot: Snapshot) -> list[str]:
    """The products' ids by number."""
    table = snapshot.products
    return [table.image(row).product_id for row in table.starts[:-1].tolist()]
