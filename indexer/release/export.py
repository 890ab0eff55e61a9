"""Export all product -> products answers of the snapshot that serves into two files: `similar.parquet` has a row for
each answer, `similar.jsonl` a line for each product. Both name the snapshot."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.snapshot.reader import Snapshot
from shared.snapshot.verdicts import QueryKind
from shared.storage.files import replacing
from shared.vectors.top_k import DIGITS

_BLOCK = 2000  # products: a row group has the answers of so many
_COLUMNS = {
    "product_id": pa.string(),
    "rank": pa.int16(),
    "similar_product_id": pa.string(),
    "score": pa.float32(),
    "verdict": pa.string(),
    "image_id": pa.string(),
    "image_url": pa.string(),
}


def export_answers(snapshot: Snapshot, folder: Path) -> tuple[Path, Path]:
    """Write both files, each replacing the one before when it is whole; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, lines = folder / "similar.parquet", folder / "similar.jsonl"
    told = {"snapshot": snapshot.id, "partition": str(snapshot.manifest.partition)}
    schema = pa.schema(_COLUMNS).with_metadata(told)
    with ExitStack() as files:
        rows = files.enter_context(pq.ParquetWriter(files.enter_context(replacing(table)), schema, compression="zstd"))
        text = files.enter_context(files.enter_context(replacing(lines)).open("xb"))
        for block in _blocks(snapshot):
            text.writelines(_line({"product_id": asked, **told, "similar": found}) for asked, found in block)
            rows.write_table(pa.Table.from_pylist([row for answers in block for row in _rows(*answers)], schema))
    return table, lines


def _blocks(snapshot: Snapshot) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
    """Yield some products at a time: each one's id and answers, as over HTTP but without attributes."""
    table, near, verdicts = snapshot.products, snapshot.neighbour_table, snapshot.verdicts.get(QueryKind.PRODUCT)
    images = [(image.product_id, image.image_id, image.image_url) for image in map(table.image, range(table.rows))]

    def answers(product: int) -> list[dict[str, Any]]:
        found = zip(near.rows[product].tolist(), near.scores[product].tolist(), strict=True)
        return [
            {
                "rank": rank,
                "product_id": images[row][0],
                "score": round(score, DIGITS),
                "verdict": verdicts.of(score) if verdicts else None,
                "image_id": images[row][1],
                "image_url": images[row][2],
            }
            for rank, (row, score) in enumerate(found, 1)
        ]

    for first in range(0, table.count, _BLOCK):
        products = range(first, min(first + _BLOCK, table.count))
        yield [(images[table.starts[product]][0], answers(product)) for product in products]


def _rows(asked: str, answers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for answer in answers:
        yield {**answer, "product_id": asked, "similar_product_id": answer["product_id"]}


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
