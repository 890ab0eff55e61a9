"""Everything that `/openapi.json` tells of is asked, rightly and wrongly, a thousand times: whatever comes, the server
answers as it says there, and never with a fault of its own.

CONTRACT_CASES is how many times each operation is asked at random, beside all that its schema suggests.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.pictures import vectors
from tests.support.project import ROOT
from tests.support.server import serving
from tests.support.snapshots import LEVELS, snapshot_of

pytestmark = pytest.mark.slow

CASES = os.environ.get("CONTRACT_CASES", "30")


def test_whatever_is_asked_the_answer_is_as_the_contract_says(tmp_path: Path) -> None:
    paths, asked = ask_all(tmp_path, "--exclude-tag", "live")
    assert len(asked) > 1000
    every_operation_was_answered(paths, asked, live=False)


def test_whatever_is_changed_the_answer_is_as_the_contract_says(tmp_path: Path) -> None:
    paths, asked = ask_all(tmp_path, "--include-tag", "live")
    assert len(asked) > 500
    every_operation_was_answered(paths, asked, live=True)


def ask_all(data: Path, *which: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A server of twenty products is asked. Returns the contract's paths, and all that was asked with its answers."""
    names = ["8300037", "8300074"] + [f"p{n}" for n in range(18)]  # two that the contract's examples ask for
    rows = [{"brand": ("CCM", "Bauer")[n % 2], "price": str(n)} for n in range(20)]
    quality = {"verdicts": {"photo": LEVELS, "product": LEVELS}}
    snapshot_of(data, names, vectors(*range(20)), attributes=rows, quality=quality)
    how = ["--max-examples", CASES, "--seed", "1", "--generation-database", "none", "--continue-on-failure"]
    how += ["--header", "Authorization: Bearer admin", "--no-color", "--report", "har"]
    report = data / "asked.har"
    with serving(data, SIMILARITY_ADMIN_KEY="admin") as url:
        ask = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(Path(__file__).with_name("contract.toml")),
            "run",
        ]
        command = [*ask, f"{url}/openapi.json", *how, "--report-har-path", str(report), *which]
        # It keeps notes in the folder that it runs in.
        where = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=data, env=where, capture_output=True, text=True)
        with urllib.request.urlopen(f"{url}/openapi.json") as answer:
            paths = json.load(answer)["paths"]
    assert done.returncode == 0, done.stdout + done.stderr
    return paths, json.loads(report.read_text())["log"]["entries"]


def every_operation_was_answered(paths: dict[str, Any], asked: list[dict[str, Any]], *, live: bool) -> None:
    right = {(one["request"]["method"], urlsplit(one["request"]["url"]).path) for one in asked if is_right(one)}
    for path, methods in paths.items():
        place = re.sub("{product_id}", ".+", re.sub("{(department|domain)}", "[^/]+", path))
        for method, operation in methods.items():
            if (operation["tags"] == ["live"]) == live:
                assert any(re.fullmatch(place, at) for how, at in right if how == method.upper()), f"{method} {path}"


def is_right(asked: dict[str, Any]) -> bool:
    """Tell whether the question had an answer."""
    return asked["response"]["status"] in (200, 202, 302)
