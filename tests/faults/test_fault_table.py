"""The list of faults and the tests that carry their ids fit together."""

import csv
import re
import subprocess
import sys
from pathlib import Path

from tests.support.fault_table import ROWS
from tests.support.project import ROOT

_TESTS = """
import pytest

@pytest.mark.fault("I1")
def test_survived(record_property):
    record_property("files", 7)

@pytest.mark.fault("I2")
def test_not_survived():
    assert 0

@pytest.mark.fault("I3")
@pytest.mark.skip("here")
def test_skipped():
    pass
"""


def test_each_fault_has_a_test_and_each_id_is_a_faults() -> None:
    with ROWS.open(newline="") as file:
        listed = [row["id"] for row in csv.DictReader(file, strict=True)]
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_fault_table.py"]
    marked = {fault for text in texts for fault in re.findall(r'mark\.fault\("(\w+)"', text)}
    assert len(set(listed)) == len(listed)
    assert marked == set(listed)


def test_the_table_says_what_was_survived_failed_skipped_and_missing(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(_TESTS)
    options = ["-p", "tests.support.fault_table", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "pytest", *options, f"--fault-table={tmp_path / 'faults.md'}", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    rows = {line.split(" | ")[0]: line for line in (tmp_path / "faults.md").read_text().splitlines()}
    assert "| as it must | files 7, `test_some.test_survived` |" in rows["| I1"]
    assert "| FAILED: 1 of 1 tests |" in rows["| I2"]
    assert "| skipped | Skipped: here, " in rows["| I3"]
    assert "| MISSING: no test ran |" in rows["| I4"]
    assert rows["| I1"] in done.stdout
