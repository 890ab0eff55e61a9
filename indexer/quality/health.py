"""Find faults of a catalog's pictures and categories by what a run measured anyway; report them as CSV and as a
page."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from indexer.ingest.csv_text import cell, csv_text
from indexer.ingest.picture_stats import ONE_PICTURE_BELOW, PictureStats, difference
from indexer.ingest.pipeline import Indexed
from indexer.ingest.report import RunReport
from shared.errors import ConfigError
from shared.images.gallery import Row, Section, Tile, page
from shared.index.columns import Column
from shared.index.duplicates import Duplicates
from shared.index.filters import folded
from shared.index.neighbour_table import NeighbourTable
from shared.index.product_table import ProductImage
from shared.refusals import LIVE, Kind
from shared.storage.files import replace_atomically

_TINY, _BLANK, _MANY = 100, 12, 3
_COSINE, _PAIRED = 0.85, 10
_NEAREST, _OTHERS, _COHERENT = 10, 8, 0.6
_SHOWN, _BESIDE = 40, 6


class Fault(StrEnum):
    """The kinds of faults."""

    DEAD = "dead"
    BLANK = "blank"
    TINY = "tiny"
    PLACEHOLDER = "placeholder"
    DUPLICATE = "duplicate"
    MISFILED = "misfiled"


_TITLES = {
    Fault.DEAD: "Dead: no picture could be had",
    Fault.BLANK: "Blank: nothing but one colour",
    Fault.TINY: f"Tiny: the shorter side has less than {_TINY} pixels",
    Fault.PLACEHOLDER: "Placeholder: one picture of many products",
    Fault.DUPLICATE: "Duplicate: two products, one picture",
    Fault.MISFILED: "Misfiled: among products of another category",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of an image. `related`: the product that is its double; `beside`: images to be seen beside it; `new`:
    the last run did not find it."""

    kind: Fault
    image: ProductImage
    detail: str
    related: str = ""
    beside: Sequence[ProductImage] = ()
    new: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The identity of a finding from run to run."""
        return str(self.kind), self.image.product_id, self.image.image_id, self.related


def find(indexed: Indexed, near: NeighbourTable, stats: Callable[[str], PictureStats | None]) -> list[Finding]:
    """Find all faults, kind by kind, the surest first. `near` is the table of the run's products; `stats` returns the
    measurements of a content, if it has some."""
    found: dict[Fault, list[Finding]] = {kind: [] for kind in Fault}
    found[Fault.DEAD] = list(_dead(indexed.report, indexed.images))
    uses: dict[str, dict[str, ProductImage]] = {}
    unfit = set()
    for image, content in zip(indexed.images, indexed.contents, strict=True):
        uses.setdefault(content, {}).setdefault(image.product_id, image)
        for kind, detail in _plain(stats(content)):
            found[kind].append(Finding(kind, image, detail))
            unfit.add(content)
    for content, images in uses.items():
        if len(images) >= _MANY:
            detail = f"One picture ({content[:8]}) stands for {len(images):,} products."
            found[Fault.PLACEHOLDER] += (Finding(Fault.PLACEHOLDER, image, detail) for image in images.values())
            unfit.add(content)
    found[Fault.DUPLICATE] = list(_duplicates(indexed, near, stats, unfit))
    found[Fault.MISFILED] = _misfiled(indexed, near)
    return [finding for findings in found.values() for finding in findings]


def duplicates(findings: Sequence[Finding], indexed: Indexed, telling: Sequence[Column]) -> Duplicates:
    """The products that are listed twice, by their numbers. Not where a telling column says that they differ, as in
    colour: one picture then stands for two variants."""
    numbers = {indexed.images[row].product_id: number for number, row in enumerate(indexed.groups.first.tolist())}
    twice = [finding for finding in findings if finding.kind is Fault.DUPLICATE]
    pairs = [(numbers[finding.image.product_id], numbers[finding.related]) for finding in twice]
    first = indexed.groups.first

    def differ(column: Column, pair: tuple[int, int]) -> bool:
        one, other = (folded(column.values[column.codes[first[product]]]) for product in pair)
        return bool(one and other and one != other)

    return Duplicates.of(pair for pair in pairs if not any(differ(column, pair) for column in telling))


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """The number of findings of each kind, for the manifest."""
    found = Counter(finding.kind for finding in findings)
    return {str(kind): found[kind] for kind in Fault}


def publish(folder: Path, findings: Sequence[Finding], picture: Callable[[ProductImage], bytes]) -> str:
    """Write `health.csv` and `index.html`, new findings first of their kind. Returns a sentence for the terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "health.csv"
    before = _keys(path.read_bytes()) if path.exists() else None
    marked = [
        replace(finding, new=before is not None and (*map(cell, finding.key),) not in before) for finding in findings
    ]
    marked.sort(key=lambda finding: (list(Fault).index(finding.kind), not finding.new))
    (folder / "index.html").write_text(_page(marked, picture), encoding="utf-8", errors="replace")
    replace_atomically(path, _csv(marked))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts(marked).items() if count)
    new = sum(finding.new for finding in marked)
    return f"Catalog health: {kinds or 'no faults'}{f'; {new:,} new' if new else ''}: {folder / 'index.html'}"


def _dead(report: RunReport, images: Sequence[ProductImage]) -> Iterator[Finding]:
    for item in report.refused:
        if item.refusal.kind not in (Kind.MISSING_ID, Kind.DUPLICATE, *LIVE):  # those are not faults of the picture
            image = ProductImage(item.row.product_id, item.row.image_id, "", item.row.attributes)
            yield Finding(Fault.DEAD, image, f"{item.refusal.kind}: {item.refusal.detail}")
    for image in images:
        if refusal := report.tally.kept.get(image.image_url):
            detail = f"{refusal.kind}: {refusal.detail} Its picture is that of an earlier run."
            yield Finding(Fault.DEAD, image, detail)


def _plain(seen: PictureStats | None) -> Iterator[tuple[Fault, str]]:
    """The faults that a picture has by itself."""
    if seen and seen.contrast < _BLANK:
        yield Fault.BLANK, f"The picture has one colour: its contrast is {seen.contrast} of 255."
    if seen and min(seen.width, seen.height) < _TINY:
        yield Fault.TINY, f"The picture has {seen.width} x {seen.height} pixels."


def _duplicates(
    indexed: Indexed, near: NeighbourTable, stats: Callable[[str], PictureStats | None], unfit: set[str]
) -> Iterator[Finding]:
    """Pairs of near products whose pictures are one: first by the network's own vectors, then by their pixels."""
    contents, images = indexed.contents, indexed.images
    for _, one, other in sorted(_close(indexed, near), reverse=True):
        if contents[one] in unfit or contents[other] in unfit:
            continue
        detail = "Both have the very same picture."
        if contents[one] != contents[other]:
            seen, doubled = stats(contents[one]), stats(contents[other])
            if not seen or not doubled or (apart := difference(seen, doubled)) >= ONE_PICTURE_BELOW:
                continue
            detail = f"Their pictures differ by {apart:.0f} of 255 where they differ most."
        first, second = sorted((images[one], images[other]), key=lambda image: image.product_id)
        yield Finding(Fault.DUPLICATE, first, detail, second.product_id, [second])


def _close(indexed: Indexed, near: NeighbourTable) -> Iterator[tuple[float, int, int]]:
    """The two closest images of near products: (cosine of the network's head, row, row of the other)."""
    groups, head = indexed.groups, indexed.raw[:, : indexed.plain]
    lengths = np.linalg.norm(head, axis=1)
    others = groups.owners_of(near.rows[:, :_PAIRED])
    pairs = np.stack([np.repeat(np.arange(len(others)), others.shape[1]), others.ravel()], axis=1)
    for pair in np.unique(np.sort(pairs, axis=1), axis=0):
        one, other = (groups.rows(product) for product in pair)
        cosines = head[one] @ head[other].T / np.outer(lengths[one], lengths[other])
        row, beside = divmod(int(cosines.argmax()), cosines.shape[1])
        if cosines[row, beside] >= _COSINE:
            yield float(cosines[row, beside]), one[row], other[beside]


def _misfiled(indexed: Indexed, near: NeighbourTable) -> list[Finding]:
    """Products whose nearest ones are of one other category, if both categories keep together otherwise."""
    images, groups = indexed.images, indexed.groups
    names, own = np.unique([images[row].attributes.get("category", "") for row in groups.first], return_inverse=True)
    if near.rows.shape[1] < _NEAREST:
        return []
    around = own[groups.owners_of(near.rows[:, :_NEAREST])]
    agreeing = (around == own[:, None]).mean(axis=1)
    coherent = (np.bincount(own, agreeing) / np.bincount(own) >= _COHERENT) & (names != "")
    votes = (around[:, :, None] == around[:, None, :]).sum(axis=2)
    other = np.take_along_axis(around, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
    most = votes.max(axis=1)
    wrong = np.flatnonzero((other != own) & (most >= _OTHERS) & coherent[own] & coherent[other])
    return [
        Finding(
            Fault.MISFILED,
            images[groups.first[product]],
            f"It is filed under {names[own[product]]}; {most[product]} of the {_NEAREST} products most like it are "
            f"{names[other[product]]}.",
            beside=[images[row] for row in near.rows[product, :_BESIDE]],
        )
        for product in wrong[np.argsort(-most[wrong], kind="stable")]
    ]


def _keys(data: bytes) -> set[tuple[object, ...]]:
    """The keys of the findings in an earlier `health.csv`."""
    rows = csv.DictReader(io.StringIO(data.decode("utf-8", "replace"), newline=""), delimiter=";")
    return {tuple(row.get(name) or "" for name in ("kind", "product_id_model", "id", "related")) for row in rows}


def _csv(findings: Sequence[Finding]) -> bytes:
    rows = ([*finding.key, "new" if finding.new else "", finding.detail] for finding in findings)
    return csv_text(["kind", "product_id_model", "id", "related", "new", "detail"], rows)


def _page(findings: Sequence[Finding], picture: Callable[[ProductImage], bytes]) -> str:
    sections = []
    for kind, title in _TITLES.items():
        of_kind = [finding for finding in findings if finding.kind == kind]
        # A placeholder is seen once, however many products have it.
        seen = list({f.detail if kind == Fault.PLACEHOLDER else f.key: f for f in reversed(of_kind)}.values())[::-1]
        if seen:
            count = f"{len(of_kind):,}" + (f", the first {_SHOWN} shown" if len(seen) > _SHOWN else "")
            sections.append(Section(f"{title} ({count})", [_row(finding, picture) for finding in seen[:_SHOWN]]))
    new = sum(finding.new for finding in findings)
    intro = f"{len(findings):,} findings, {new:,} of them new since the last run (framed). All are in health.csv."
    return page("Is the catalog healthy?", intro, sections)


def _row(finding: Finding, picture: Callable[[ProductImage], bytes]) -> Row:
    return Row(
        _tile(finding.image, picture, finding.detail, "wrong" if finding.new else ""),
        [_tile(image, picture) for image in finding.beside],
    )


def _tile(image: ProductImage, picture: Callable[[ProductImage], bytes], detail: str = "", mark: str = "") -> Tile:
    name, product = image.attributes.get("name"), image.product_id
    parts = [part for part in (product if name else "", detail) if part]
    try:
        data = picture(image)
    except ConfigError:  # a file that has gone
        data = b""
    return Tile(data, name or product, " · ".join(parts), mark)
