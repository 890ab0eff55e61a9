"""Report the outcome of every row of the catalog: a table for people, JSON and a CSV of the refusals for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from indexer.catalog.parsing import CatalogRow, RefusedRow
from indexer.ingest.csv_text import csv_text
from shared.refusals import Refusal


@dataclass(slots=True)
class Tally:
    """The counts of a run that goes on. `kept` are images that failed this time and stay as an earlier run had them."""

    fetched: int = 0
    unchanged: int = 0
    embedded: int = 0
    reused: int = 0
    kept: dict[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of a run: rows in = indexed + refused, always."""

    rows: int
    products: int
    indexed: Sequence[CatalogRow]
    refused: Sequence[RefusedRow]
    tally: Tally
    seconds: float
    model: str

    @property
    def kinds(self) -> dict[str, int]:
        """The number of refused rows, by kind, the most frequent first."""
        return dict(Counter(str(item.refusal.kind) for item in self.refused).most_common())

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json`."""
        return {
            "rows": self.rows,
            "products": self.products,
            "products_indexed": len({row.product_id for row in self.indexed}),
            "indexed": len(self.indexed),
            "refused": len(self.refused),
            "refused_by_kind": self.kinds,
            "images": {key: value for key, value in asdict(self.tally).items() if key != "kept"},
            "kept": {url: str(refusal.kind) for url, refusal in self.tally.kept.items()},
            "seconds": round(self.seconds, 1),
            "model": self.model,
            "refused_rows": [_fields(item) for item in self.refused],
        }

    def refused_csv(self) -> bytes:
        """The content of `refused.csv`: UTF-8, separator `;`."""
        names = ["row", "product_id_model", "id", "kind", "detail"]
        return csv_text(names, ([fields[name] for name in names] for fields in map(_fields, self.refused)))

    def table(self, title: str) -> Table:
        """The table for the terminal."""
        table = Table("", "count", title=title, title_justify="left", min_width=40)
        table.columns[1].justify = "right"
        counts = self.to_dict()
        table.add_row("catalog rows", f"{self.rows:,}")
        table.add_row("products", f"{self.products:,}")
        table.add_row("products indexed", f"{counts['products_indexed']:,}")
        table.add_row("rows indexed", f"{len(self.indexed):,}", style="bold")
        for kind, count in self.kinds.items():
            table.add_row(f"rows refused: {kind}", f"{count:,}", style="yellow")
        for name in ("fetched", "unchanged", "embedded", "reused"):
            table.add_row(f"images {name}", f"{counts['images'][name]:,}", style="dim")
        if self.tally.kept:
            table.add_row("images kept from before", f"{len(self.tally.kept):,}", style="yellow")
        table.add_row("seconds", f"{self.seconds:.1f}", style="dim")
        return table


def _fields(item: RefusedRow) -> dict[str, Any]:
    return {
        "row": item.row.number,
        "product_id_model": item.row.product_id,
        "id": item.row.image_id,
        "kind": str(item.refusal.kind),
        "detail": item.refusal.detail,
    }
