"""The commands that move snapshots, and `make ship` to a real sshd on loopback."""

import getpass
import itertools
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from indexer.__main__ import main
from indexer.release import commands, ship
from shared.errors import ConfigError, DepotError, SnapshotError
from shared.snapshot import directory
from shared.snapshot.lease import Lease
from shared.snapshot.manifest import Manifest
from shared.snapshot.reader import Snapshot
from shared.snapshot.verify import verify
from shared.storage.bucket import Bucket
from shared.storage.files import digest_of
from tests.support.audit import entries
from tests.support.pictures import drawn
from tests.support.project import ROOT, often
from tests.support.server import free_port, until
from tests.support.snapshots import HOCKEY, hockey, snapshot_of, standing, unit

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def filled(data: Path, seed: int, rows: int = 20) -> str:
    vectors = unit(*[[seed + 1.0, n, 1] for n in range(rows)])
    return snapshot_of(data, [f"p{n}" for n in range(rows)], vectors).id


def command(name: str, data: Path, *more: str) -> Result:
    where = ["--department", "371", "--domain", "0341", "--data", str(data)]
    return CliRunner().invoke(main, [name, *where, *more])


def said(result: Result) -> str:
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.fault("S10")
def test_publish_pull_list_and_go_back(bucket: Bucket, tmp_path: Path) -> None:
    here, there, depot = tmp_path / "here", tmp_path / "there", ("--depot", bucket.uri)
    one = filled(here, 1)
    assert one in said(command("publish", here, *depot))
    two = filled(here, 2)
    said(command("publish", here, *depot))
    assert two in said(command("pull", there, *depot))
    table = said(command("snapshots", there, *depot))
    assert row(table, two)[3:] == ["20", "20", "", "current", "current"]
    assert row(table, one)[3:] == ["20", "20", "", "", "previous"]
    assert one in said(command("rollback", there, *depot))
    assert standing(bucket) == [one, two]
    assert row(said(command("snapshots", there, *depot)), two)[-2:] == ["current", "previous, withdrawn"]
    assert hockey(there).current() == two  # that was the depot; the host follows
    said(command("pull", there, *depot))
    assert two in said(command("rollback", there))
    assert (hockey(there).current(), standing(bucket)) == (two, [one, two])
    assert one in said(command("rollback", there, "--to", one))
    assert row(said(command("snapshots", there)), one)[-2:] == ["current", ""]


def test_each_command_leaves_its_entry_on_this_host(tmp_path: Path) -> None:
    (tmp_path / "depot").mkdir()
    here, there, uri = tmp_path / "here", tmp_path / "there", (tmp_path / "depot").as_uri()
    one = filled(here, 1)
    said(command("publish", here, "--depot", uri))
    two = filled(here, 2)
    said(command("publish", here, "--depot", uri))
    said(command("pull", there, "--depot", uri))
    said(command("rollback", here, "--depot", uri))
    said(command("rollback", here))
    with pytest.raises(SnapshotError):
        said(command("rollback", here, "--to", "nothing"))
    told = [(entry["action"], entry["what"].get("snapshot"), entry["outcome"]) for entry in entries(here)]
    assert told[:-1] == [
        ("publish", one, "done"),
        ("publish", two, "done"),
        ("rollback", one, "done"),
        ("rollback", one, "done"),
    ]
    assert told[-1][2].startswith("failed: The snapshot nothing is not on this host")
    assert [entry["what"]["depot"] for entry in entries(here)] == [uri] * 3 + [None] * 2
    (pulled,) = entries(there)
    assert (pulled["action"], pulled["partition"], pulled["what"]["snapshot"]) == ("pull", "371/0341", two)
    assert pulled["actor"] == {"user": pwd.getpwuid(os.getuid()).pw_name, "pid": os.getpid()}


def row(table: str, snapshot_id: str) -> list[str]:
    """The cells of a snapshot: id, created, MiB, images, products, quality, host, depot. Long ones wrap."""
    lines = [[cell.strip() for cell in line.strip()[1:-1].split("│")] for line in table.splitlines() if "│" in line]
    ((at, first),) = ((at, cells) for at, cells in enumerate(lines) if cells[0] == snapshot_id)
    more = itertools.takewhile(lambda cells: not cells[0], lines[at + 1 :])
    return [" ".join(filter(None, parts)) for parts in zip(first, *more, strict=True)]


def test_going_back_on_a_host_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    one = filled(tmp_path, 1)
    with pytest.raises(SnapshotError, match=f"no longer on this host. Give one of them: TO={one}"):
        said(command("rollback", tmp_path))
    with pytest.raises(SnapshotError, match="The snapshot none is not on this host"):
        said(command("rollback", tmp_path, "--to", "none"))
    two = filled(tmp_path, 2)
    (hockey(tmp_path).snapshot(one) / "products.jsonl").write_bytes(b"junk")
    with pytest.raises(SnapshotError, match=r"products\.jsonl"):
        said(command("rollback", tmp_path))
    assert (hockey(tmp_path).current(), hockey(tmp_path).previous()) == (two, one)


def test_going_back_says_where_a_server_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_PATIENCE", 0.1)
    filled(tmp_path, 1)
    two = filled(tmp_path, 2)
    lease = Lease(hockey(tmp_path).snapshot(two))
    assert f"A server here still answers from {two}" in said(command("rollback", tmp_path))
    lease.close()
    assert "still answers" not in said(command("rollback", tmp_path, "--to", two))


def test_the_list_tells_what_the_manifest_says_of_quality(tmp_path: Path) -> None:
    one = filled(tmp_path, 1)
    manifest = hockey(tmp_path).snapshot(one) / "manifest.json"
    learned = {"parts": {"centre": True, "within": False, "photos": "adapt"}, "judged": {}}
    quality = {"estimate": 0.5, "estimated_by": "held-out images", "coverage": 1.0, "health": {"dead": 1}}
    fields = json.loads(manifest.read_text()) | {"quality": {**quality, "learned": learned}}
    manifest.write_text(json.dumps(fields))
    assert row(said(command("snapshots", tmp_path)), one)[5] == (
        "estimate 0.5, estimated_by held-out images, coverage 1.0, learned: centre photos=adapt"
    )


def test_indexing_signs_where_a_key_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_SIGNING_KEY", "the-secret")
    for n in range(3):
        (tmp_path / f"p{n}.png").write_bytes(drawn(n, kind="PNG"))
    output = said(command("index", tmp_path / "data", "--catalog", str(tmp_path), "--model", "colour_grid"))
    assert Snapshot.current(tmp_path / "data", HOCKEY, "the-secret")
    (entry,) = entries(tmp_path / "data")
    assert (entry["action"], entry["what"]) == ("index", {"snapshot": hockey(tmp_path / "data").current()})
    assert "the-secret" not in output + str(entry)


def test_a_damaged_snapshot_is_listed_too(tmp_path: Path) -> None:
    one = filled(tmp_path, 1)
    (hockey(tmp_path).snapshot(one) / "manifest.json").write_bytes(b"{}")
    assert "unreadable" in said(command("snapshots", tmp_path))


def test_a_depot_whose_latest_is_damaged_is_listed_too(tmp_path: Path) -> None:
    (tmp_path / "depot").mkdir()
    depot = ("--depot", (tmp_path / "depot").as_uri())
    one = filled(tmp_path, 1)
    said(command("publish", tmp_path, *depot))
    (tmp_path / "depot" / "snapshots" / "371" / "0341" / "LATEST").write_bytes(b"junk")
    assert row(said(command("snapshots", tmp_path, *depot)), one)[-2:] == ["current", "there"]


def test_a_depot_is_asked_for(tmp_path: Path) -> None:
    for name in ("publish", "pull"):
        with pytest.raises(ConfigError, match="Give DEPOT="):
            said(command(name, tmp_path))


@pytest.mark.parametrize("host", ["", "host", "host:relative", "-oProxyCommand=x:/d", "a b:/d", "$(x):/d"])
def test_a_host_that_is_none_is_named(tmp_path: Path, host: str) -> None:
    filled(tmp_path, 1)
    with pytest.raises(ConfigError, match="HOST=user@host:/folder"):
        said(command("ship", tmp_path, f"--host={host}"))


@dataclass(frozen=True)
class Remote:
    """Another host, reached by a real ssh."""

    login: str
    ssh: str

    def ship(self, data: Path, root: Path, *more: str) -> str:
        return said(command("ship", data, "--host", f"{self.login}:{root}", "--ssh", self.ssh, *more))


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    if SSHD is None or not shutil.which("rsync") or not shutil.which("ssh"):
        pytest.skip("sshd, ssh and rsync are not all installed")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    shutil.copy(folder / "user.pub", folder / "authorized")
    settings = ("StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        + "\n".join(settings)
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        assert process.poll() is None, "sshd did not start"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    until(listens)
    quiet = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
    yield Remote(f"{getpass.getuser()}@127.0.0.1", f"ssh -p {port} -i {folder}/user -F none {quiet}")
    process.terminate()
    process.wait(10)


@pytest.mark.slow
def test_a_snapshot_is_shipped_to_another_host(remote: Remote, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there with a 'name'"
    one = filled(here, 1)
    remote.ship(here, there)
    assert Snapshot.current(there, HOCKEY).id == one
    assert entries(here)[0]["what"] == {"host": f"{remote.login}:{there}", "snapshot": one}
    remote.ship(here, there)  # once more changes nothing
    assert hockey(there).previous() is None
    two = filled(here, 2)
    remote.ship(here, there)
    assert (Snapshot.current(there, HOCKEY).id, hockey(there).previous()) == (two, one)
    hockey(here).activate(one)
    remote.ship(here, there)  # it is there already
    assert (Snapshot.current(there, HOCKEY).id, hockey(there).previous()) == (one, two)
    assert {path.name for path in hockey(there).path.iterdir()} == {"CURRENT", "PREVIOUS", ".choosing.lock", one, two}


@pytest.mark.slow
def test_old_snapshots_are_removed_there_but_none_that_serves(remote: Remote, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    ids, leases = [], []
    for seed in range(5):
        ids.append(filled(here, seed))
        remote.ship(here, there, "--keep", "1")
        if seed == 0:
            leases.append(Lease(hockey(there).snapshot(ids[0])))  # a server's
    kept = set(hockey(there).ids())
    assert {ids[0], ids[3], ids[4]} <= kept
    assert len(kept) <= 4  # ids of one second have no order
    leases.clear()
    remote.ship(here, there, "--keep", "1")
    assert {ids[3], ids[4]} <= set(hockey(there).ids())
    assert len(hockey(there).ids()) <= 3


@pytest.mark.slow
def test_two_ship_at_once(remote: Remote, tmp_path: Path) -> None:
    there = tmp_path / "there"
    ids = [filled(tmp_path / name, seed, 2000) for seed, name in enumerate(("one", "two"))]
    command = [sys.executable, "-m", "indexer", "ship", "--department", "371", "--domain", "0341"]
    where = ["--host", f"{remote.login}:{there}", "--ssh", remote.ssh]
    both = [
        subprocess.Popen([*command, *where, "--data", str(tmp_path / name)], cwd=ROOT, stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    assert Snapshot.current(there, HOCKEY).id in ids
    assert set(hockey(there).ids()) == set(ids)
    assert not (hockey(there).path / ".shipping").exists()


@pytest.mark.slow
def test_a_shipped_snapshot_waits_for_who_is_choosing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = hockey(tmp_path / "here"), hockey(tmp_path / "there")
    ids = [filled(there.data, seed) for seed in range(3)]
    old, new = min(ids), filled(here.data, 3)
    there.activate(max(ids))
    shutil.copytree(here.snapshot(new), there.path / ".shipping" / new)
    accept = ["sh", "-c", ship._ACCEPT, "accept", str(there.path), new, "1"]
    sums = [f"{digest_of(path).sha256}  {path.name}\n" for path in here.snapshot(new).iterdir()]
    (tmp_path / "sums").write_text("".join(sums))

    def slow(*arguments: Any) -> Manifest:
        with (tmp_path / "sums").open() as file:
            shipped.append(subprocess.Popen(accept, stdin=file))
        time.sleep(0.5)
        assert shipped[0].poll() is None
        assert (there.current(), set(there.ids())) == (max(ids), set(ids))
        return verify(*arguments)

    shipped: list[subprocess.Popen[bytes]] = []
    with monkeypatch.context() as watched:
        watched.setattr(directory, "verify", slow)
        assert there.go_back(old) == old
    assert shipped[0].wait(10) == 0
    assert (there.current(), there.previous()) == (new, old)
    assert Snapshot(there.snapshot(old)).id == old


@pytest.mark.fault("S3")
@pytest.mark.slow
def test_a_full_disk_there_keeps_the_old_snapshot_and_no_debris(
    remote: Remote, tmp_path: Path, small_disk: Path
) -> None:
    here, there = tmp_path / "here", small_disk / "there"
    one = filled(here, 1)
    remote.ship(here, there)
    filled(here, 2, 2000)
    subprocess.run(["mount", "-o", "remount,size=300k", str(small_disk)], check=True)
    with pytest.raises(DepotError, match=r"cannot be written to .* Is its disk full"):
        remote.ship(here, there)
    assert Snapshot.current(there, HOCKEY).id == one
    assert not list(hockey(there).path.glob(".shipping/2*"))


@pytest.mark.fault("S6")
@pytest.mark.slow
def test_what_arrives_damaged_is_refused(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    one = filled(here, 1)
    remote.ship(here, there)
    two = filled(here, 2)

    def damaged(command: list[str], sent: str = "") -> None:
        run(command, sent)
        for path in hockey(there).path.glob(".shipping/*/index.faiss"):
            path.write_bytes(path.read_bytes()[:-1])

    run = ship._run
    with monkeypatch.context() as broken:
        broken.setattr(ship, "_run", damaged)
        with pytest.raises(DepotError, match=r"index\.faiss: FAILED"):
            remote.ship(here, there)
    assert Snapshot.current(there, HOCKEY).id == one
    remote.ship(here, there)
    (hockey(there).snapshot(two) / "index.faiss").write_bytes(b"junk")
    remote.ship(here, there)  # mends what was damaged there
    assert Snapshot.current(there, HOCKEY).id == two


@pytest.mark.slow
def test_a_host_that_is_not_there_is_named(remote: Remote, tmp_path: Path) -> None:
    filled(tmp_path, 1)
    nobody = Remote("nobody@127.0.0.1", f"ssh -p {free_port()} -F none -o BatchMode=yes")
    with pytest.raises(DepotError, match="Connection refused"):
        nobody.ship(tmp_path, tmp_path / "there")


@pytest.mark.slow
def test_shipping_that_is_killed_leaves_the_old_snapshot_or_the_new(remote: Remote, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    known = {filled(here, 0)}
    remote.ship(here, there)
    rng = random.Random(4)
    script = f"""
from pathlib import Path
from rich.console import Console
from indexer.release.commands import Shipping
from tests.support.snapshots import HOCKEY
print("started", flush=True)
Shipping(HOCKEY, Path({str(here)!r})).ship(Console(), {f"{remote.login}:{there}"!r}, {remote.ssh!r})
"""
    for seed in range(1, often(20, 5) + 1):
        known.add(filled(here, seed, 2000))
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(rng.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)  # ssh and rsync too
        process.communicate()
        assert Snapshot.current(there, HOCKEY).id in known
    for left in hockey(there).path.glob(".shipping/*"):
        os.utime(left, (0, 0))
    remote.ship(here, there)
    assert Snapshot.current(there, HOCKEY).id == hockey(here).current()
    assert not (hockey(there).path / ".shipping").exists()
