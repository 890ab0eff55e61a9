"""The audit log: lines that are whole, files that are renamed, and what cannot be written."""

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import audit
from shared.audit import NAME, Entry, audited, record
from shared.errors import SnapshotError
from tests.support.audit import entries
from tests.support.project import ROOT

ENTRY = Entry("publish", {"user": "me", "pid": 1})
WRITER = """
import sys
from pathlib import Path
from shared import audit
audit.MOST_BYTES, audit.KEPT = 500, 400
sys.stdin.read()  # until all are there
for number in range(200):
    audit.record(Path(sys.argv[1]), audit.Entry("x", {"pid": int(sys.argv[2])}, what={"number": number}))
"""


def test_processes_write_at_once_while_files_are_renamed_and_nothing_is_lost_or_torn(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)], cwd=ROOT, stdin=subprocess.PIPE)
        for n in range(4)
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = [(entry["actor"]["pid"], entry["what"]["number"]) for entry in entries(tmp_path)]
    assert sorted(found) == [(n, number) for n in range(4) for number in range(200)]
    sizes = [path.stat().st_size for path in tmp_path.glob(f"{NAME}.*")]
    assert len(sizes) > 100
    assert max(sizes) <= 500


def test_the_oldest_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_BYTES", len(ENTRY.line()))
    monkeypatch.setattr(audit, "KEPT", 3)
    for number in range(5):
        record(tmp_path, Entry("publish", {"user": "me", "pid": number}))
    found = {path.name: json.loads(path.read_bytes())["actor"]["pid"] for path in tmp_path.iterdir()}
    assert found == {NAME: 4, f"{NAME}.1": 3, f"{NAME}.2": 2}


def test_the_file_is_its_group_s_to_read_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    record(tmp_path, ENTRY)
    os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_command_of_root_leaves_the_file_to_the_folder_s_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    record(tmp_path, ENTRY)
    found = (tmp_path / NAME).stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_no_text_makes_a_line_or_a_long_one(tmp_path: Path) -> None:
    ids = [f'{n}\r\n{{"action": "forged"}}\u2028' + "x" * 1000 for n in range(500)]
    record(tmp_path, Entry("PUT\n", {"key": "a\nb"}, "371\n", {"ids": ids, "id": ids[0]}, "no\n" * 1000, "\r\n"))
    (line,) = (tmp_path / NAME).read_bytes().splitlines()
    assert len(line) < 10_000
    found = json.loads(line)
    assert (found["what"]["ids"]["count"], len(found["what"]["ids"]["first"])) == (500, 20)
    assert found["what"]["id"].startswith('0\r\n{"action": "forged"}')


def test_what_a_killed_process_wrote_does_not_spoil_the_next_line(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"time": "20')
    record(tmp_path, ENTRY)
    torn, line = (tmp_path / NAME).read_bytes().splitlines()
    assert torn == b'{"time": "20'
    assert json.loads(line)["action"] == "publish"


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files cannot grow beyond one and a half lines."""
    record(tmp_path, ENTRY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(ENTRY.line()) * 3 // 2, before[1]))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_does_not_fit_is_told_and_leaves_no_half(full: Path) -> None:
    with pytest.raises(OSError, match=r'audit.log cannot be written: File too large.*"action": "publish"'):
        record(full, ENTRY)
    assert len(entries(full)) == 1


def test_an_action_whose_entry_cannot_be_written_fails(full: Path) -> None:
    done = []
    with pytest.raises(OSError, match="cannot be written"), audited(full, "publish", "371/0341"):
        done.append(1)
    assert done
    with pytest.raises(SnapshotError, match="why"), audited(full, "publish", "371/0341"):
        raise SnapshotError("why")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="cannot be written"):
        record(tmp_path, ENTRY)
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_an_action_that_fails_says_why_and_no_secret_of_a_url(tmp_path: Path) -> None:
    where = "https://me:secret@cdn.example/1.jpg?X-Amz-Signature=signed is away"
    with pytest.raises(SnapshotError), audited(tmp_path, "pull", "371/0341", {"depot": "s3://depot"}):
        raise SnapshotError(where)
    with pytest.raises(KeyboardInterrupt), audited(tmp_path, "pull", "371/0341"):
        raise KeyboardInterrupt
    with audited(tmp_path, "pull", "371/0341") as what:
        what["snapshot"] = "new"
    failed, stopped, done = entries(tmp_path)
    assert failed["outcome"] == "failed: https://cdn.example/1.jpg is away"
    assert (failed["partition"], failed["what"]) == ("371/0341", {"depot": "s3://depot"})
    assert stopped["outcome"] == "failed: KeyboardInterrupt"
    assert (done["outcome"], done["what"]) == ("done", {"snapshot": "new"})
    assert done["actor"]["pid"] == os.getpid()
