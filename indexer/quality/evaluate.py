"""Evaluate the answers on a catalog: by photos whose product is known; without such photos, by images that are held out
of products that have several, and by simulated photos of the others.

R@k: the right product is among the first k. MRR: the mean of 1 / its rank, over the first 10. mAP@10: the mean average
precision of the first 10, where every product of the photo's category is right. Intervals are 95 % bootstrap intervals.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from indexer.catalog.parsing import parse_catalog
from indexer.ingest.cache import Cache, read_file
from indexer.metric.choose import folds, sample, several, without_photos
from indexer.progress import Bar
from indexer.quality.compare import show_changes
from indexer.quality.evaluate_products import alike_outcomes, alike_page, measure_alike
from indexer.quality.simulated_photo import photographed
from shared.embedding.embedder import Embedder
from shared.errors import BadPicture, ConfigError
from shared.images.decode import decode
from shared.images.encode import jpeg
from shared.images.gallery import Row, Section, Tile, page
from shared.index.product_table import ProductImage
from shared.partition import Partition
from shared.refusals import Refusal
from shared.search.hits import Hit
from shared.search.params import TEN as FIRST
from shared.search.search import similar_to_photo
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.reader import Snapshot
from shared.vectors.top_k import best_of_each

_SIMULATED, _TIMES, _HELD_OUT, _RESAMPLED, _SHOWN_ROWS, _SHOWN = 240, 4, 500, 1000, 120, 5


@dataclass(frozen=True, slots=True)
class Query:
    """A photo, the product that it shows, and that product's category ("" if the catalog has none)."""

    photo: bytes
    product_id: str
    category: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query and its first answers; none if the photo was refused."""

    query: Query
    answers: Sequence[Hit]

    @property
    def rank(self) -> int:
        """The right product's rank, or 0 if it is not among the answers."""
        ranks = (answer.rank for answer in self.answers if answer.image.product_id == self.query.product_id)
        return next(ranks, 0)

    @property
    def precision(self) -> float:
        """The average precision of the answers by category."""
        hits = [float(answer.image.attributes.get("category") == self.query.category) for answer in self.answers]
        if not sum(hits):
            return 0.0
        return sum(hit * sum(hits[: at + 1]) / (at + 1) for at, hit in enumerate(hits)) / sum(hits)


_UNKNOWN = dict.fromkeys(("value", "low", "high"), float("nan"))
METRICS: dict[str, Callable[[Outcome], float]] = {
    "R@1": lambda outcome: outcome.rank == 1,
    "R@5": lambda outcome: 1 <= outcome.rank <= 5,
    "R@10": lambda outcome: outcome.rank >= 1,
    "MRR": lambda outcome: 1 / outcome.rank if outcome.rank else 0.0,
    "category@1": lambda outcome: _category(outcome) == outcome.query.category,
    "mAP@10": lambda outcome: outcome.precision,
}


def measure_snapshots(
    data: Path, partition: Partition, photos: Path | None, alike: Sequence[str], against: str | None, to: Console
) -> None:
    """Measure the current snapshot, and another beside it; print tables, write JSON and pages of pictures, of what
    changed too. `alike` are the columns that say which products are alike, if they are not to be found.

    Raises `ConfigError` where there is nothing to ask.
    """
    snapshots = [Snapshot.current(data, partition)]
    if against:
        snapshots.append(Snapshot(PartitionFolder(data, partition).snapshot(against)))
    folder = data / "evaluation" / partition.department / partition.domain
    folder.mkdir(parents=True, exist_ok=True)
    labelled = labelled_queries(photos) if photos else []
    figures, figures_alike = {}, {}
    with Cache(data) as cache:
        for snapshot, name in zip(snapshots, ("index.html", "against.html"), strict=False):
            outcomes_alike = alike_outcomes(snapshot, alike)
            if outcomes_alike:
                figures_alike[snapshot.id] = measure_alike(outcomes_alike, interval)
                html = alike_page(snapshot, outcomes_alike, cache.picture)
                (folder / f"products-{name}").write_text(html, encoding="utf-8", errors="replace")
            embedder = snapshot.load_embedder()
            if photos:
                outcomes, asked = ask(snapshot, embedder, labelled), "photos"
            else:
                held_out = held_out_outcomes(snapshot, cache)
                queries = simulated_queries(snapshot, cache.picture, only_single=bool(held_out))
                outcomes = held_out + ask(snapshot, embedder, queries)
                asked = f"{len(held_out)} held-out images and {len(queries)} simulated photos"
            if not outcomes:
                raise ConfigError("There is nothing to ask: the catalog's pictures are not in the cache. Give PHOTOS=.")
            figures[snapshot.id] = {"asked": asked, **measure(outcomes)}
            (folder / name).write_text(pictures_page(outcomes, figures[snapshot.id], cache.picture), encoding="utf-8")
            to.print(f"{snapshot.id}: {len(outcomes):,} questions ({asked})", soft_wrap=True)
    merged = {name: figure | {"alike": figures_alike.get(name)} for name, figure in figures.items()}
    (folder / "metrics.json").write_text(json.dumps(merged, indent=1, ensure_ascii=False), encoding="utf-8")
    to.print(table("Is the product in the photo found?", figures))
    pages = str(folder / "index.html")
    if figures_alike:
        to.print(table("How alike is what is found by a product?", figures_alike))
        pages += f" and {folder / 'products-index.html'}"
    else:
        to.print("No column says which products are alike: name some that do, as in ALIKE=category,style.")
    to.print(f"As pictures: {pages}; as JSON: {folder / 'metrics.json'}", soft_wrap=True)
    if against:
        show_changes(data, partition, against, to)


def labelled_queries(path: Path) -> list[Query]:
    """Read the photos of a CSV like a catalog's, with the column `path` relative to it. Raises `ConfigError`,
    `CatalogError`."""
    catalog = parse_catalog(read_file(path), str(path))
    if "path" not in catalog.columns:
        raise ConfigError(f"{path} has no column 'path', which says where each photo lies.")
    return [
        Query(read_file(path.parent / row.attributes["path"]), row.product_id, row.attributes.get("category", ""))
        for row in catalog.rows
    ]


def simulated_queries(
    snapshot: Snapshot, pictures: Callable[[ProductImage], bytes], *, only_single: bool = False
) -> list[Query]:
    """Simulate 240 phone photos of the snapshot's products (`only_single`: of those with one image), each with another
    product beside it; several of some products if there are fewer, so that chance counts less."""
    rng = np.random.default_rng(0)
    table = snapshot.products
    products = np.flatnonzero(np.diff(table.starts) == 1) if only_single else np.arange(table.count)
    chosen = rng.permutation(products)[:_SIMULATED].tolist()
    images = [table.image(table.images(product)[0]) for product in chosen]
    shown = [(image, picture) for image in images if not isinstance(picture := decode(pictures(image)), Refusal)]
    queries = []
    for number in range(min(_SIMULATED, _TIMES * len(shown))):
        image, picture = shown[number % len(shown)]
        beside = shown[int(rng.integers(len(shown)))][1]
        photo = jpeg(photographed(picture, rng, [beside]), quality=85)
        queries.append(Query(photo, image.product_id, image.attributes.get("category", "")))
    return queries


def held_out_outcomes(snapshot: Snapshot, cache: Cache) -> list[Outcome]:
    """Search by images of products that have several, each in the catalog without it and its like (`choose.folds`).

    The network's own vectors come from the cache; none where it lacks them, or where few products have several images.
    """
    table = snapshot.products
    owners = table.owners(np.arange(table.rows))
    some = sample(owners)
    if not several(owners[some]):
        return []
    images = [table.image(row) for row in some]
    known = cache.known(image.image_url for image in images)
    contents = [(had.good or had.content) if (had := known.get(image.image_url)) else "" for image in images]
    fingerprint = snapshot.spec.fingerprint
    if cache.embedded(fingerprint, contents) != set(contents):
        return []
    raw = cache.vectors(fingerprint, contents, snapshot.spec.dimension)
    recipe = without_photos(snapshot.manifest.quality.learned)
    outcomes = []
    for fold in folds(raw, owners[some], snapshot.spec.plain_dimension, recipe):
        rest = np.delete(some, fold.asks)
        for row in np.random.default_rng(0).permutation(fold.asks)[: _HELD_OUT // 2].tolist():
            scores = (fold.photo(raw[row : row + 1]) @ fold.rows.T)[0]
            best, nearest = (found[: FIRST.k].tolist() for found in best_of_each(scores, rest, fold.owners))
            answers = [
                Hit(rank, score, table.line(at)) for rank, (score, at) in enumerate(zip(best, nearest, strict=True), 1)
            ]
            image = images[row]
            query = Query(cache.picture(image), image.product_id, image.attributes.get("category", ""))
            outcomes.append(Outcome(query, answers))
    return outcomes


def ask(snapshot: Snapshot, embedder: Embedder, queries: Sequence[Query]) -> list[Outcome]:
    """Search the snapshot by every query. A refused photo has no answers, and counts as wrong."""
    outcomes = []
    with Bar("photos", len(queries)) as bar:
        for query in queries:
            try:
                answers = similar_to_photo(snapshot, embedder, query.photo, FIRST)
            except BadPicture:
                answers = []
            outcomes.append(Outcome(query, answers))
            bar.advance()
    return outcomes


def measure(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Every metric with its interval, and R@1 per category, worst first."""
    categories = sorted({outcome.query.category for outcome in outcomes})
    per_category = {name: [o.rank == 1 for o in outcomes if o.query.category == name] for name in categories}
    return {
        "photos": len(outcomes),
        "metrics": {
            name: interval(np.array([metric(outcome) for outcome in outcomes], float))
            for name, metric in METRICS.items()
            if categories != [""] or name not in ("category@1", "mAP@10")
        },
        "categories": {
            name: {"photos": len(right), "R@1": round(float(np.mean(right)), 4)}
            for name, right in sorted(per_category.items(), key=lambda item: float(np.mean(item[1])))
        },
    }


def table(title: str, figures: Mapping[str, dict[str, Any]]) -> Table:
    """The metrics of one or two snapshots side by side, for the terminal."""
    shown = Table("", *figures, title=title, title_justify="left")
    for name in next(iter(figures.values()))["metrics"]:
        cells = (figure["metrics"].get(name, _UNKNOWN) for figure in figures.values())
        shown.add_row(name, *(f"{cell['value']:.3f}  ({cell['low']:.3f} to {cell['high']:.3f})" for cell in cells))
    return shown


def pictures_page(
    outcomes: Sequence[Outcome], figures: dict[str, Any], picture: Callable[[ProductImage], bytes]
) -> str:
    """Each query with its answers, right and wrong marked, worst categories first."""
    sections, left = [], _SHOWN_ROWS
    for name, figure in figures["categories"].items():
        of_category = sorted(
            (o for o in outcomes if o.query.category == name), key=lambda o: o.rank or 99, reverse=True
        )
        rows = [_row(outcome, picture) for outcome in of_category[:left]]
        left -= len(rows)
        sections.append(Section(f"{name or 'all'}: R@1 {figure['R@1']:.2f} of {figure['photos']} photos", rows))
    first = figures["metrics"]["R@1"]
    intro = f"{figures['photos']} photos; R@1 {first['value']:.3f} ({first['low']:.3f} to {first['high']:.3f}). "
    return page("How good are the answers?", intro + "Worst categories first; a green frame is right.", sections)


def _row(outcome: Outcome, picture: Callable[[ProductImage], bytes]) -> Row:
    wanted = outcome.query.product_id
    tiles = []
    for answer in outcome.answers[:_SHOWN]:
        mark = "right" if answer.image.product_id == wanted else "wrong"
        name = answer.image.attributes.get("name") or answer.image.product_id
        tiles.append(Tile(picture(answer.image), name, f"{answer.image.product_id} · {answer.score:.2f}", mark))
    return Row(Tile(outcome.query.photo, f"of {wanted}", f"found at {outcome.rank or 'no rank'}"), tiles)


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The mean of a metric's values, and between which values 95 % of the means of resampled ones lie."""
    resampled = np.random.default_rng(0).integers(len(values), size=(_RESAMPLED, len(values)))
    low, high = np.percentile(values[resampled].mean(axis=1), [2.5, 97.5])
    return {"value": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _category(outcome: Outcome) -> str | None:
    return outcome.answers[0].image.attributes.get("category") if outcome.answers else None
