"""The fault table: `make faults` runs the tests that carry a fault's id, and writes what was survived.

A pytest plugin. A test names its rows by `@pytest.mark.fault("I3")`, and adds figures by `record_property`. The rows
are in `tests/faults/faults.csv`.
"""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.project import ROOT

ROWS = ROOT / "tests" / "faults" / "faults.csv"
_PROPERTY = "fault"


class FaultTable:
    """The outcomes of the tests of each fault, as a table."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        self._figures: dict[str, list[str]] = defaultdict(list)

    @property
    def text(self) -> str:
        """The table, as Markdown."""
        with ROWS.open(newline="") as file:
            rows = [
                (row["id"], row["fault"], row["what must happen"], self.outcome(row["id"]), self._evidence(row["id"]))
                for row in csv.DictReader(file)
            ]
        head = ("id", "fault", "what must happen", "what happened", "evidence")
        cells = [head, ("---",) * len(head), *rows]
        return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in cells)

    @property
    def survived(self) -> bool:
        """True if each row has a test, and none failed."""
        with ROWS.open(newline="") as file:
            outcomes = [self.outcome(row["id"]) for row in csv.DictReader(file)]
        return not any(outcome.startswith(("FAILED", "MISSING")) for outcome in outcomes)

    def add(self, report: pytest.TestReport) -> None:
        """Add what became of a test, or of its set-up or end."""
        for fault in (value for name, value in report.user_properties if name == _PROPERTY):
            tests = self._outcomes[str(fault)]
            if report.when == "call" or report.outcome != "passed":
                tests[report.nodeid] = report.outcome
            if report.skipped and isinstance(report.longrepr, tuple):
                self._figures[str(fault)].append(report.longrepr[2])
            if report.when == "teardown":
                figures = [f"{name} {value}" for name, value in report.user_properties if name != _PROPERTY]
                self._figures[str(fault)] += figures

    def outcome(self, fault: str) -> str:
        """Tell in words if the fault was survived."""
        outcomes = [*self._outcomes[fault].values()]
        failed, skipped = outcomes.count("failed"), outcomes.count("skipped")
        if not outcomes:
            return "MISSING: no test ran"
        if failed:
            return f"FAILED: {failed} of {len(outcomes)} tests"
        if skipped == len(outcomes):
            return "skipped"
        return "as it must" + (f"; {skipped} of {len(outcomes)} tests skipped" if skipped else "")

    def _evidence(self, fault: str) -> str:
        counts: dict[str, int] = defaultdict(int)
        for test in self._outcomes[fault]:
            file, _, name = test.partition("[")[0].partition("::")
            counts[f"{Path(file).stem}.{name}"] += 1
        tests = (f"`{name}`" + (f" x {count}" if count > 1 else "") for name, count in counts.items())
        return ", ".join([*dict.fromkeys(self._figures[fault]), *tests])


_table = FaultTable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", type=Path, default=Path("data/faults.md"), help="file that the table goes to")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write the ids of its faults into each test's report, which may come from another process."""
    for item in items:
        item.user_properties += [(_PROPERTY, mark.args[0]) for mark in item.iter_markers("fault")]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _table.add(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table, in the process that has all reports. The command fails if a row was not survived."""
    if hasattr(session.config, "workerinput"):
        return
    file: Path = session.config.getoption("fault_table")
    file.parent.mkdir(exist_ok=True)
    file.write_text(_table.text)
    if not _table.survived:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write(f"\n{_table.text}\nWritten to {config.getoption('fault_table')}\n")
