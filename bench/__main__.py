"""The command line: `python -m bench --bench search`. Wiring only."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from bench.figure import Figure
from bench.material import Material, Sizes
from bench.report import Report, cells, machine
from shared.command_line import run

# `load` first: memory that its processes have in common with this one would be counted by halves.
BENCHES = ("load", "embed", "pipeline", "search", "serve")
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)


@click.command()
@click.option("--bench", envvar="SIMILARITY_BENCH", type=click.Choice(BENCHES), help="Only this one.")
@click.option("--data", envvar="SIMILARITY_DATA", default="data", type=click.Path(path_type=Path, resolve_path=True))
@click.option("--dataset", envvar="SIMILARITY_DATASET", type=_FOLDER, help="Pictures instead of the drawn shop's.")
@click.option("--limit", envvar="SIMILARITY_LIMIT", type=click.IntRange(8), help="Nothing larger: a quick try.")
def main(bench: str | None, data: Path, dataset: Path | None, limit: int | None) -> None:
    """Measure how fast it is beside other libraries and engines, and whether the answers are right."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    before, figures = machine(), []
    material = Material.of(data, dataset, Sizes().capped(limit) if limit else Sizes())
    for name in [bench] if bench else BENCHES:
        # Imported only now: most peers are large.
        for group in import_module(f"bench.{name}").FIGURES:
            console.print(f"Measuring: {name}")
            for figure in _seen(group(material), name):
                figures.append(figure)
                console.print("  " + "; ".join(filter(None, (*cells(figure), figure.note))))
    report = Report(before, figures)
    console.print(f"\n{report.table()}")
    console.print(f"As JSON, and the table and a plot beside it: {report.write(data / 'bench')}")


def _seen(figures: Iterator[Figure], name: str) -> Iterator[Figure]:
    """Yield the figures until one fails, so that a failure does not hide those of others."""
    try:
        yield from figures
    except Exception as error:
        yield Figure(name, wrong=f"{type(error).__name__}: {error}".partition("\n")[0])


if __name__ == "__main__":
    run(main, "bench")
