"""Journals that are damaged, cut off, gone or too old: it is noticed, and costs only what is damaged."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import NotKept
from shared.live.journal import Journal
from shared.live.reading import LiveImage, Pins
from shared.partition import Partition
from tests.support.live_client import ADMIN, KEY, Client
from tests.support.pictures import vectors
from tests.support.project import ROOT
from tests.support.server import serving, until
from tests.support.snapshots import HOCKEY, snapshot_of

FLIPS = 1000


@dataclass(frozen=True, slots=True)
class Content:
    """All that a journal says: names -> values, and what it says of itself."""

    said: Mapping[str, Any]
    problem: str


def fill(journal: Journal) -> None:
    """Make a few dozen changes."""
    for n in range(24):
        images = [LiveImage(f"i{n}.{place}", "", bytes([n, place]) * 300) for place in range(1 + n % 2)]
        raw = np.full((len(images), 8), n, np.float32)
        journal.put(f"p{n % 20}", {"name": f"Élan {n}", "size": str(n)}, images, "net", raw)
        journal.embedded(journal_seq(journal), 0, "another net", raw[0])
        journal.set_available([f"sold out {n}", f"p{n}"], [f"p{n - 3}"])
        journal.pin(f"p{n}", Pins((f"p{n + 1}",), (f"p{n + 2}", f"p{n + 3}")))
    journal.delete("p7", indexed=True)
    journal.delete("p8", indexed=True)


def journal_seq(journal: Journal) -> int:
    with journal.reading() as reading:
        return reading.clock().seq


def content(data: Path) -> Content:
    """Read everything. Raises `NotKept`."""
    journal = Journal(data, HOCKEY)
    with journal.reading() as reading:
        said: dict[str, Any] = {"clock": (reading.clock().journal, reading.clock().seq)}
        said |= {f"unavailable {name}": True for name in reading.unavailable()}
        said |= {f"pins of {name}": pins for name, pins in reading.pins().items()}
        for change in reading.changes():
            said[f"change {change.seq}"] = change
            for place, image in enumerate(reading.addresses(change.seq)):
                said[f"image {change.seq} {place}"] = image
                if (picture := reading.data(change.seq, place)) is not None:
                    said[f"bytes {change.seq} {place}"] = picture
            for place, network, raw in reading.all_vectors(change.seq):
                said[f"vector {change.seq} {place} {network}"] = raw.tobytes()
        return Content(said, journal.problem(reading))


@pytest.fixture(params=[False, True], ids=["closed", "with a log"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, bytes]:
    """The files of a journal: the database, and, where servers hold it open, its write-ahead log."""
    journal = Journal(tmp_path, HOCKEY)
    fill(journal)
    if request.param:
        journal.state()
        journal.pin("last", Pins(("p1",)))
        journal.delete("p9", indexed=True)
        journal.set_available(["p1"])
    found = {
        path.name: path.read_bytes() for path in journal.path.parent.glob("0341.sqlite*") if path.suffix[-3:] != "shm"
    }
    assert len(found) == 1 + request.param
    journal.close()
    return found


@pytest.mark.fault("B4")
@pytest.mark.slow  # it takes seconds
def test_no_flipped_bit_is_other_content_without_being_noticed(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder, dice = tmp_path / "live" / "371", random.Random(1)
    whole = content(tmp_path)
    assert (whole.problem, len(whole.said) > 100) == ("", True)
    marked = Journal(tmp_path, HOCKEY).mark_path
    noticed, mark = 0, marked.read_bytes()
    for attempt in range(FLIPS):
        marked.write_bytes(mark)
        name = dice.choice(sorted(files))
        flipped = bytearray(files[name])
        bit = dice.randrange(len(flipped) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        for old in folder.glob("0341.sqlite*"):
            old.unlink()
        for each, own in (files | {name: bytes(flipped)}).items():
            (folder / each).write_bytes(own)
        try:
            found = content(tmp_path)
        except NotKept:
            noticed += 1
            continue
        where = f"bit {bit} of {name}: {found.problem}"
        noticed += bool(found.problem)
        if "an older copy" not in found.problem:
            kept = whole.said if not found.problem else {name: whole.said.get(name) for name in found.said}
            assert found.said == kept, where
        if attempt % 10 == 0:
            with suppress(NotKept):
                Journal(tmp_path, HOCKEY).pin("new", Pins(("p1",)))
                assert content(tmp_path).said["pins of new"] == Pins(("p1",)), where
    assert noticed > FLIPS // 10


def spoil(data: Path, statement: str, *arguments: object, domain: str = "0341") -> None:
    """Change a journal behind the program's back, as a damaged disk does."""
    with closing(sqlite3.connect(data / "live" / "371" / f"{domain}.sqlite", isolation_level=None)) as db:
        db.create_function("checksum", -1, lambda *_: 0)
        assert db.execute(statement, arguments).rowcount


def command(data: Path, *words: str) -> tuple[int, str]:
    """Exit status and output of `python -m server journal`."""
    line = [sys.executable, "-m", "server", "journal", *words, "371/0341", "--data", str(data)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two partitions, each with live changes."""
    for domain in ("0341", "0342"):
        partition = Partition("371", domain)
        snapshot_of(tmp_path, [f"p{n}" for n in range(6)], vectors(*range(6), size=(48, 48)), partition)
        Journal(tmp_path, partition).set_available(["p5"])
        Journal(tmp_path, partition).pin("p1", Pins(("p4",)))
        Journal(tmp_path, partition).delete("p3", indexed=True)
    return tmp_path


@pytest.mark.parametrize(
    ("statement", "named", "gone"),
    [
        ("UPDATE pins SET pinned = '{[' WHERE product_id = 'p1'", "the pins of product 'p1'", "pins"),
        ("UPDATE pins SET crc = crc + 1", "the pins of product 'p1'", "pins"),
        ("UPDATE unavailable SET product_id = 'p6'", "the unavailable product 'p6'", "availability"),
        ("DELETE FROM unavailable", "rows of unavailable, which are missing", "availability"),
        ("UPDATE products SET attributes = CAST(x'ff' AS TEXT)", "change 3 of product 'p3'", "products"),
    ],
)
def test_a_damaged_row_costs_only_itself_until_it_is_mended(
    data: Path, statement: str, named: str, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(data, statement)
    client = Client(data)
    for _ in range(3):
        client.snapshots.apply_changes()
    said = client.http.get("/readyz").get_json()["live_changes"]
    assert said.keys() == {"371/0341"}
    assert named in said["371/0341"]
    assert "journal repair 371/0341" in said["371/0341"]
    assert caplog.text.count(named) == 1
    assert 'similarity_live_changes_damaged{partition="371/0341"} 1.0' in client.http.get("/metrics").text
    client.ask("PATCH", "/availability", json={"unavailable": ["p2"]})
    answers = client.similar("p1")
    assert "p2" not in answers
    assert ("p5" in answers, "p3" in answers) == (gone == "availability", gone == "products")
    assert (client.similar("p1", 1) == ["p4"]) or gone == "pins"
    status, said = command(data, "check")
    assert (status, named in said) == (1, True)
    status, said = command(data, "repair")
    assert (status, named in said) == (0, True)
    client.snapshots.apply_changes()
    assert client.http.get("/readyz").get_json()["live_changes"] == {}
    assert set(client.similar("p1")) == set(answers)
    assert client.ask("PATCH", "/availability", json={"unavailable": []})["change"] == 6
    assert command(data, "check")[0] == 0


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def page_of_products(path: Path) -> None:
    """Damage one page, which a change of availability would not touch."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'products'").fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(data)


def folder_of_that_name(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        half,
        page_of_products,
        folder_of_that_name,
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database" * 1000),
    ],
    ids=["half", "page", "folder", "gone", "empty", "other"],
)
def test_a_file_that_is_no_journal_costs_only_its_changes(data: Path, damage: Callable[[Path], object]) -> None:
    path = data / "live" / "371" / "0341.sqlite"
    damage(path)
    client = Client(data)
    assert set(client.similar("p1")) == {"p0", "p2", "p3", "p4", "p5"}
    assert client.http.get("/readyz").get_json()["live_changes"].keys() == {"371/0341"}
    problem = client.ask("PATCH", "/availability", 503, json={"unavailable": ["p2"]})
    assert "journal repair 371/0341" in problem["detail"]
    assert str(data) not in problem["detail"]
    other = client.http.patch("/v1/371/0342/availability", json={"unavailable": ["p2"]}, headers=ADMIN)
    assert other.status_code == 200
    client.snapshots.apply_changes()
    assert set(client.snapshots.open["371/0342"].changes.unavailable) == {"p2", "p5"}  # type: ignore[attr-defined]
    status, said = command(data, "repair")
    if path.is_dir():
        assert (status, "Is a directory" in said) == (1, True)
        return
    assert (status, "Damaged or lost: " in said) == (0, True), said
    client.snapshots.apply_changes()
    assert client.http.get("/readyz").get_json()["live_changes"] == {}
    assert client.ask("PATCH", "/availability", json={"unavailable": ["p2"]})["change"] == 5


@pytest.mark.fault("B8")
def test_an_older_copy_is_noticed_and_a_backup_put_back_by_a_command(data: Path, tmp_path: Path) -> None:
    path, backup = data / "live" / "371" / "0341.sqlite", tmp_path / "backup"
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(backup)) as copy:
        db.backup(copy)
    client = Client(data)
    client.ask("PATCH", "/availability", json={"unavailable": ["p2"]})
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink()
    shutil.copy(backup, path.with_suffix(".part")).replace(path)
    client.snapshots.apply_changes()
    assert "ends at change 3, but changes up to 4" in client.http.get("/readyz").get_json()["live_changes"]["371/0341"]
    assert "older copy" in client.ask("PATCH", "/availability", 503, json={"unavailable": ["p1"]})["detail"]
    status, said = command(data, "repair", "--from", str(backup))
    assert (status, "changes up to 4" in said) == (0, True)
    client.snapshots.apply_changes()
    assert client.http.get("/readyz").get_json()["live_changes"] == {}
    assert client.ask("GET", "/availability") == {"unavailable": ["p5"]}
    assert client.ask("PATCH", "/availability", json={"unavailable": ["p1"]})["change"] == 6


def test_another_journal_is_noticed_and_accepted_by_a_command(data: Path) -> None:
    path, other = data / "live" / "371" / "0341.sqlite", data / "live" / "371" / "0342.sqlite"
    shutil.copy(other, path)
    client = Client(data)
    assert "another journal" in client.http.get("/readyz").get_json()["live_changes"]["371/0341"]
    assert command(data, "repair")[0] == 0
    client.snapshots.apply_changes()
    assert client.http.get("/readyz").get_json()["live_changes"] == {}
    assert client.ask("PATCH", "/availability", json={"unavailable": ["p1"]})["change"] == 5


def test_a_crash_before_the_mark_is_written_is_no_alarm(data: Path) -> None:
    journal = Journal(data, HOCKEY)
    before = journal.mark_path.read_bytes()
    journal.pin("p2", Pins(("p1",)))
    for mark in (before, b"", before[:20], None):
        journal.mark_path.unlink()
        if mark is not None:
            journal.mark_path.write_bytes(mark)
        with journal.reading() as reading:
            assert journal.problem(reading) == ""
        journal.pin("p2", Pins(("p1",)))
        assert journal.mark_path.read_bytes() > before


@pytest.mark.fault("B4")
@pytest.mark.slow
def test_a_server_goes_on_beside_a_damaged_journal_and_sees_it_mended(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_ADMIN_KEY", KEY)
    spoil(data, "UPDATE pins SET pinned = '{['")
    half(data / "live" / "371" / "0341.sqlite")
    other = Partition("371", "0342")
    with serving(data, workers=2) as base:
        assert list(ask(f"{base}/readyz")["live_changes"]) == ["371/0341"]
        kept = ask(f"{base}/v1/371/0342/availability", "PATCH", {"unavailable": ["p2"]})
        assert kept["change"] == 4
        until(lambda: "p2" not in str(ask(f"{base}/v1/371/0342/products/p1/similar")))
        new = snapshot_of(data, [f"p{n}" for n in range(7)], vectors(*range(7), size=(48, 48)), other)
        until(lambda: ask(f"{base}/v1/371/0342/products/p1/similar")["snapshot"] == new.id)
        assert ask(f"{base}/v1/371/0341/availability", "PATCH", {"unavailable": ["p2"]})["status"] == 503
        assert command(data, "repair")[0] == 0
        until(lambda: all(not ask(f"{base}/readyz")["live_changes"] for _ in range(10)))
        assert ask(f"{base}/v1/371/0341/availability", "PATCH", {"unavailable": ["p2"]})["change"] == 5
        until(lambda: all("p2" not in str(ask(f"{base}/v1/371/0341/products/p1/similar")) for _ in range(10)))


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON of an answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {**ADMIN, "Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)
