"""The audit of pinned packages: what is vulnerable is named, and what was not looked at is not called good."""

import runpy
from collections.abc import Callable
from typing import Any

from tests.support.project import ROOT

verdict: Callable[[list[dict[str, Any]]], tuple[list[str], bool]]
verdict = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["verdict"]
GOOD = {"name": "good", "version": "1", "vulns": []}
SKIPPED = {"name": "odd", "skip_reason": "odd is not found"}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}


def test_what_is_vulnerable_is_named_with_its_remedy() -> None:
    assert verdict([GOOD, BAD]) == (["bad 2: PYSEC-1, mended in 2.1"], True)


def test_what_was_not_looked_at_is_not_called_good() -> None:
    assert verdict([SKIPPED]) == (["Not audited: 1 of 1 packages, such as: odd is not found"], False)
    assert verdict([GOOD, SKIPPED])[0][1] == "No known vulnerability in 1 packages."
    assert verdict([GOOD, GOOD]) == (["No known vulnerability in 2 packages."], False)
