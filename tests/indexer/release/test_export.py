"""Exports: the answers of the server, whole or not at all, and which snapshot's they are."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from indexer.__main__ import main
from indexer.release import export
from indexer.release.export import export_answers
from shared.search.params import SearchParams
from shared.search.search import similar_to_product
from shared.snapshot.reader import Snapshot
from shared.vectors.unit import normalise
from tests.support.snapshots import snapshot_of

VERDICTS = {
    "product": {"similar": 0.1, "variant": 0.5, "same": 0.8, "false_alarms": {}, "lost": 0.1, "fitted_on": "x"},
}
IDS = [*(f"p{n // 2}" for n in range(240)), "a\nb", "😀", 'q"']


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    monkeypatch.setattr(export, "_BLOCK", 50)
    vectors = normalise(np.random.default_rng(0).normal(size=(len(IDS), 6)).astype(np.float32))
    return snapshot_of(tmp_path, IDS, vectors, quality={"verdicts": VERDICTS})


def wanted(snapshot: Snapshot, product_id: str) -> list[dict[str, Any]]:
    """The server's answer but for the attributes."""
    answers = similar_to_product(snapshot, product_id, SearchParams(100))
    return [
        {"rank": answer.rank, "score": answer.score, "verdict": answer.verdict, **vars_of(answer.image)}
        for answer in answers
    ]


def vars_of(image: Any) -> dict[str, str]:
    return {name: getattr(image, name) for name in ("product_id", "image_id", "image_url")}


def test_both_files_have_what_the_server_answers(snapshot: Snapshot, tmp_path: Path) -> None:
    table, lines = export_answers(snapshot, tmp_path / "out")
    told = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [line["product_id"] for line in told] == list(dict.fromkeys(IDS))
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == 100 * len(told)
    for number, line in enumerate(told):
        assert line["snapshot"] == snapshot.id
        assert line["similar"] == wanted(snapshot, line["product_id"])
        for row, answer in zip(rows[100 * number : 100 * number + 100], line["similar"], strict=True):
            assert (row["product_id"], row["similar_product_id"]) == (line["product_id"], answer["product_id"])
            assert abs(row.pop("score") - answer["score"]) < 1e-6
            assert {name: row[name] for name in row.keys() & answer.keys() - {"product_id"}} == {
                name: answer[name] for name in ("rank", "verdict", "image_id", "image_url")
            }
    assert {row["verdict"] for row in rows} == {"same", "variant", "similar", "none"}
    file = pq.ParquetFile(table)
    assert file.schema_arrow.metadata == {b"snapshot": snapshot.id.encode(), b"partition": b"371/0341"}
    assert file.num_row_groups == 3


def test_an_export_that_fails_leaves_the_one_before(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    before = [path.read_bytes() for path in export_answers(snapshot, folder)]
    blocks = export._blocks

    def broken(snapshot: Snapshot) -> Iterator[Any]:
        yield next(blocks(snapshot))
        raise OSError("the disk is full")

    monkeypatch.setattr(export, "_blocks", broken)
    with pytest.raises(OSError, match="full"):
        export_answers(snapshot, folder)
    assert [(folder / name).read_bytes() for name in ("similar.parquet", "similar.jsonl")] == before
    assert sorted(os.listdir(folder)) == ["similar.jsonl", "similar.parquet"]


@pytest.mark.parametrize("ids", [["one"], ["one", "two"]])
def test_small_catalogs_without_verdicts(tmp_path: Path, ids: list[str]) -> None:
    snapshot = snapshot_of(tmp_path, ids, normalise(np.eye(3, dtype=np.float32)[: len(ids)]))
    table, lines = export_answers(snapshot, tmp_path / "out")
    assert pq.read_table(table).num_rows == len(ids) * (len(ids) - 1)
    assert [len(json.loads(line)["similar"]) for line in lines.read_text().splitlines()] == [len(ids) - 1] * len(ids)


def test_the_command_writes_where_it_is_told(snapshot: Snapshot, tmp_path: Path) -> None:
    asked = ["export", "--department", "371", "--domain", "0341", "--data", str(tmp_path)]
    for words, folder in (([], tmp_path / "exports" / "371" / "0341"), (["--to", str(tmp_path / "x")], tmp_path / "x")):
        done = CliRunner().invoke(main, [*asked, *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert pq.read_schema(folder / "similar.parquet").metadata[b"snapshot"] == snapshot.id.encode()
