"""Both questions from the terminal."""

import json
import subprocess
import sys
import tempfile
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import main
from server.app import create_app
from server.serving.snapshots import Snapshots
from tests.support.pictures import drawn, vectors
from tests.support.project import ROOT
from tests.support.snapshots import snapshot_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [*(f"p{n}" for n in range(8)), "a/b", "[red]\x1b[31m"], vectors(*range(10)))
    (tmp_path / "photo.jpg").write_bytes(drawn(7))
    return tmp_path


def ask(data: Path, *arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--data", str(data)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_product_s_answers_are_a_table(data: Path) -> None:
    table = ask(data, "similar", "371/0341", "p3", "--k", "9")
    assert "Most like p3! (p3)" in table
    for name in ("rank", "score", "verdict", "p5  p5!", "http://cdn/5.jpg", "a/b"):
        assert name in table
    assert "p3 " not in table.partition("rank")[2]
    assert "[red]\N{REPLACEMENT CHARACTER}[31m" in table  # neither markup nor a terminal's commands
    assert "\x1b" not in table


def test_a_photo_finds_its_product(data: Path) -> None:
    (first,) = json.loads(ask(data, "search", "371/0341", str(data / "photo.jpg"), "--k", "1", "--json"))["results"]
    assert (first["product_id"], first["rank"]) == ("p7", 1)


def test_json_is_what_the_server_answers(data: Path) -> None:
    client = create_app(Snapshots(data, photos=False)).test_client()
    over_http = client.get("/v1/371/0341/products/a%2Fb/similar?k=4").get_json()
    assert json.loads(ask(data, "similar", "371/0341", "a/b", "--k", "4", "--json")) == over_http


@pytest.mark.parametrize("question", ["similar", "search"])
def test_a_page_of_pictures_is_opened(data: Path, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(tempfile, "tempdir", str(data))
    ask(data, question, "371/0341", "p3" if question == "similar" else str(data / "photo.jpg"), "--open")
    (url,) = opened
    page = Path(url.removeprefix("file://")).read_text()
    assert page.count("<img") == (10 if question == "similar" else 11)
    assert 'src="http://cdn/5.jpg"' in page
    assert ("data:image/jpeg" in page) == (question == "search")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["similar", "371/0341", "nope"], "The product 'nope' is not in the index of 371/0341."),
        (["similar", "9/9", "p1"], "There is no snapshot of 9/9"),
        (["similar", "371", "p1"], "give department/domain"),
        (["similar", "../x", "p1"], "The department '..' is not valid"),
        (["search", "371/0341", __file__], "The bytes are not those of a JPEG"),
    ],
)
def test_what_is_wrong_is_one_sentence(data: Path, arguments: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "server", *arguments, "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["similar", "371/0341", "p1", "--k", "0"], ["search", "371/0341", "no.jpg"]])
def test_wrong_options_are_2(data: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(main, [*arguments, "--data", str(data)]).exit_code == 2


def test_the_folder_is_a_flag_or_in_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = ["similar", "371/0341", "p1"]
    monkeypatch.setenv("SIMILARITY_DATA", str(data))
    assert CliRunner().invoke(main, question).exit_code == 0
    assert CliRunner().invoke(main, [*question, "--data", str(data / "empty")]).exit_code == 1
