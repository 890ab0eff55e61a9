"""The journal of live changes: what is acknowledged is there, whole, whoever is killed and however full the disk is."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared.errors import JournalDamaged, NotKept, UnknownProduct
from shared.live.journal import Journal
from shared.live.reading import LiveImage, Pins
from tests.support.processes import no_larger_than
from tests.support.project import ROOT
from tests.support.snapshots import HOCKEY

# Puts products with two images each, for ever, and says so each time.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from shared.live.journal import Journal
from shared.live.reading import LiveImage
from shared.partition import Partition
journal = Journal(Path(sys.argv[1]), Partition("371", "0341"))
for n in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}{n % 7}"
    images = [LiveImage(str(n), "", bytes([n % 256]) * 20_000) for _ in range(2)]
    print(journal.put(name, {"n": str(n)}, images, "net", np.full((2, 9), n, np.float32)), name, n, flush=True)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, HOCKEY)


def put(journal: Journal, name: str, count: int = 1, mark: bytes = b"x") -> int:
    images = [LiveImage(f"i{n}", "", mark * (n + 1)) for n in range(count)]
    return journal.put(name, {"name": name}, images, "net", np.ones((count, 3), np.float32))


def writer(data: Path, name: str, count: int, limit: int | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data), name, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **(no_larger_than(limit) if limit else {}),
    )


def check_acknowledged(journal: Journal, said: str) -> None:
    """All that a writer said is there, and what is there is whole."""
    last = {name: (int(seq), n) for seq, name, n in (line.split() for line in said.splitlines())}
    with journal.reading() as reading:
        changes = {change.product_id: change for change in reading.changes()}
        for name, (seq, n) in last.items():
            assert changes[name].seq >= seq
            assert changes[name].seq > seq or changes[name].attributes == {"n": n}
        for change in changes.values():
            n = int((change.attributes or {})["n"])
            assert [image_id for image_id, _ in reading.addresses(change.seq)] == [str(n)] * 2
            assert reading.data(change.seq, 1) == bytes([n % 256]) * 20_000
            assert [float(vector[8]) for vector in reading.vectors(change.seq, "net").values()] == [n, n]


def test_nothing_is_there_before_the_first_change(journal: Journal, tmp_path: Path) -> None:
    assert journal.state() is None
    with journal.reading() as reading:
        assert (reading.changes(), reading.unavailable(), reading.pins()) == ([], frozenset(), {})
    assert not list(tmp_path.iterdir())


def test_a_product_has_its_last_change_only(journal: Journal, tmp_path: Path) -> None:
    first = put(journal, "p", 3)
    with journal.reading() as reading:
        (_, address), *_ = reading.addresses(first)
        assert reading.picture(address) == b"x"
    second, third = put(journal, "p", 1, b"y"), put(journal, "q", 1, b"z")
    journal.embedded(first, 0, "other", np.ones(3, np.float32))  # too late
    journal.embedded(second, 0, "other", np.ones(3, np.float32))
    with journal.reading() as reading:
        assert [(change.product_id, change.seq) for change in reading.changes()] == [("p", second), ("q", third)]
        assert [change.product_id for change in reading.changes(after=second)] == ["q"]
        assert (reading.picture(address), reading.data(first, 0)) == (None, None)
        assert reading.vectors(second, "other").keys() == {0}
    journal.delete("p", indexed=False)
    with pytest.raises(UnknownProduct, match="'p'"):
        journal.delete("p", indexed=True)
    assert journal.delete("catalog", indexed=True)
    with pytest.raises(UnknownProduct):
        journal.delete("nope", indexed=False)
    with journal.reading() as reading:
        changes = reading.changes()
        assert [change.attributes for change in changes if change.product_id == "p"] == [None]
    assert (journal.drop(["q", "nope"]), journal.drop()) == (1, 2)
    rest = sqlite3.connect(tmp_path / "live" / "371" / "0341.sqlite")
    assert [rest.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("images", "vectors")] == [(0,)] * 2
    rest.close()


def test_whoever_watches_sees_that_something_changed(journal: Journal, tmp_path: Path) -> None:
    watching = Journal(tmp_path, HOCKEY)
    states = [watching.state()]
    for change in (
        lambda: put(journal, "p"),
        lambda: journal.set_available(["p"]),
        lambda: journal.pin("p", Pins(("q",))),
        lambda: journal.delete("p", indexed=False),
        lambda: journal.drop(),
    ):
        change()
        states += [watching.state(), watching.state()]
        assert states[-1] == states[-2] != states[-3]
    for file in ("", "-wal", "-shm"):  # which nobody should
        (tmp_path / "live" / "371" / f"0341.sqlite{file}").unlink()
    with pytest.raises(JournalDamaged, match="changes up to 5 is gone"):
        put(journal, "p")
    journal.mark_path.unlink()  # then it is another one
    put(journal, "p")
    assert watching.state() != states[-1]
    watching.close()


@pytest.mark.slow
def test_many_processes_write_at_once(journal: Journal, tmp_path: Path) -> None:
    writers = [writer(tmp_path, name, 40) for name in "abc"]
    said = [process.communicate()[0] for process in writers]
    numbers = [int(line.split()[0]) for text in said for line in text.splitlines()]
    assert sorted(numbers) == list(range(1, 121))
    for text in said:
        check_acknowledged(journal, text)


@pytest.mark.slow
def test_killed_at_any_moment_what_was_acknowledged_is_there(journal: Journal, tmp_path: Path) -> None:
    for round_ in range(8):
        process = writer(tmp_path, "w", 10_000)
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(0.03 * round_)
        process.send_signal(signal.SIGKILL)
        said = first + process.communicate()[0]
        check_acknowledged(journal, said[: said.rindex("\n")])


@pytest.mark.slow
def test_on_a_full_disk_nothing_is_half_done(journal: Journal, tmp_path: Path) -> None:
    journal.set_available(["before"])
    for limit in (1, 50_000, 120_000, 200_000):
        process = writer(tmp_path, "w", 100, limit)
        said, error = process.communicate()
        assert "NotKept" in error.splitlines()[-1]
        check_acknowledged(journal, said)
        with journal.reading() as reading:
            assert reading.unavailable() == {"before"}
    assert put(journal, "after") > 1


def test_a_journal_of_a_later_program_is_left_alone(journal: Journal, tmp_path: Path) -> None:
    put(journal, "p")
    db = sqlite3.connect(tmp_path / "live" / "371" / "0341.sqlite")
    db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(NotKept, match="format 3"):
        put(journal, "q")
    with pytest.raises(NotKept, match="format 3"), journal.reading():
        pass
