"""The command line: `python -m bench --bench search`. Wiring only."""

import sys
from collections.abc import Iterator
from http.client import HTTPException
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from bench.config import BenchConfig, Sizes
from bench.figure import Figure
from bench.machine import machine
from bench.report import Report, number
from shared.errors import SimilarityError

BENCHES = ("embed", "pipeline", "search", "serve", "load")
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)


@click.command()
@click.option("--bench", envvar="SIMILARITY_BENCH", type=click.Choice(BENCHES), help="Only this one.")
@click.option("--data", envvar="SIMILARITY_DATA", default="data", type=click.Path(path_type=Path, resolve_path=True))
@click.option("--dataset", envvar="SIMILARITY_DATASET", type=_FOLDER, help="Pictures instead of the drawn shop's.")
@click.option("--weights", envvar="SIMILARITY_WEIGHTS", default="", help="Of VGG19[,InceptionResNetV2].")
@click.option("--limit", envvar="SIMILARITY_LIMIT", type=click.IntRange(8), help="Nothing larger: a quick try.")
def main(bench: str | None, data: Path, dataset: Path | None, weights: str, limit: int | None) -> None:
    """Measure how fast it is, against what others would use, and whether the answers are right."""
    sizes = Sizes().capped(limit) if limit else Sizes()
    config = BenchConfig(data, dataset, tuple(Path(part) for part in weights.split(",") if part), sizes)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    before, figures = machine(), []
    for name in [bench] if bench else BENCHES:
        console.print(f"Measuring: {name}")
        try:
            for figure in _figures(name, config):
                seen = f"{number(figure.ours)} {figure.unit}, ratio {number(figure.ratio)}" if figure.ours else ""
                console.print(f"  {figure.name}: {figure.status}, {seen or figure.skipped}", soft_wrap=True)
                figures.append(figure)
        except (SimilarityError, OSError, HTTPException) as error:  # what was seen until then still counts
            figures.append(Figure(name, skipped=f"it stopped ({error})"))
    report = Report(before, figures)
    console.print(report.table())
    console.print(f"As JSON, and as a page of bars beside it: {report.write(data / 'bench')}", soft_wrap=True)


def _figures(name: str, config: BenchConfig) -> Iterator[Figure]:
    """Those of one module, which is imported only now: most peers are large."""
    figures: Iterator[Figure] = import_module(f"bench.{name}").figures(config)
    return figures


def run() -> None:
    """Run, and turn an error that is meant for people into one sentence and exit status 1."""
    try:
        main(prog_name="python -m bench")
    except (SimilarityError, OSError) as error:
        Console(stderr=True).print(f"Error: {error}", style="red", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    run()
