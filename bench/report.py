"""What a benchmark leaves: a table for people, JSON for programs, and a page of bars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from rich.table import Table

from bench.figure import Figure

_STYLES = {"reached": "green", "not reached": "red", "void": "bold red", "skipped": "dim", "seen": ""}
# The bars' page shows that many times what was asked for.
_WIDEST = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run, and the machine that they were seen on."""

    machine: Mapping[str, Any]
    figures: Sequence[Figure]

    def table(self) -> Table:
        """For the terminal."""
        cpu, cores, load = self.machine["cpu"], self.machine["cores"], self.machine["load"]
        table = Table(title=f"{cpu}, {cores} cores, load {load}", title_justify="left")
        for heading in ("figure", "ours", "peer", "ratio", "bar", ""):
            table.add_column(heading, justify="right" if heading in ("ours", "ratio") else "left")
        for figure in self.figures:
            peer = f"{figure.peer}: {number(figure.theirs)}" if figure.theirs is not None else figure.peer
            reason = figure.skipped or figure.wrong
            table.add_row(
                figure.name,
                f"{number(figure.ours)} {figure.unit}".strip(),
                peer,
                number(figure.ratio),
                str(figure.bar or ""),
                f"{figure.status}: {reason}" if reason else figure.status,
                style=_STYLES[figure.status],
            )
        return table

    def write(self, folder: Path) -> Path:
        """Write `<date>.json` and the page `<date>.html`. Returns the path of the JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        date = datetime.now(UTC)
        path = folder / f"{date:%Y%m%dT%H%M%SZ}.json"
        record = {
            "date": date.isoformat(timespec="seconds"),
            "machine": self.machine,
            "figures": [figure.to_dict() for figure in self.figures],
        }
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".html").write_text(self._page(), encoding="utf-8")
        return path

    def _page(self) -> str:
        """Each figure as a bar, whose length is what was seen to what was asked for: longer is better."""
        environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
        environment.filters["number"] = number
        rows = [(figure, min(_WIDEST, _reach(figure)) / _WIDEST * 100) for figure in self.figures]
        return environment.get_template("report.html").render(machine=self.machine, rows=rows, full=100 / _WIDEST)


def number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _reach(figure: Figure) -> float:
    """What was seen to what was asked for; 1 where the bar is just reached."""
    if figure.bar is None or not figure.measured or figure.status in ("void", "skipped"):
        return 0.0
    share = figure.measured / figure.bar.value
    return 1 / share if figure.bar.most else share
