"""Every command line: a default command, and one sentence for an error that is meant for people."""

import sys

import click
import pytest
from click.testing import CliRunner

from shared import command_line
from shared.errors import ConfigError


@click.group(cls=command_line.DefaultGroup, default="one")
def main() -> None:
    """Two commands."""


@main.command()
@click.option("--loud", is_flag=True)
def one(loud: bool) -> None:
    click.echo(f"one {loud}")


@main.command()
def two() -> None:
    click.echo("two")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [([], "one False\n"), (["--loud"], "one True\n"), (["one"], "one False\n"), (["two"], "two\n")],
)
def test_without_a_name_the_default_command_is_meant(arguments: list[str], output: str) -> None:
    assert CliRunner().invoke(main, arguments).output == output


def test_help_is_that_of_the_group() -> None:
    assert "two" in CliRunner().invoke(main, ["--help"]).output


def failing(error: Exception) -> click.Command:
    def fail() -> None:
        raise error

    return click.Command("fail", callback=fail)


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fail"])


def test_an_error_for_people_is_one_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run(failing(ConfigError("It is [odd].")), "fail")
    assert (ended.value.code, capsys.readouterr().err) == (1, "Error: It is [odd].\n")


def test_a_library_that_is_missing_is_named_where_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    missing = ModuleNotFoundError("No module named 'pandas'", name="pandas")
    with pytest.raises(SystemExit):
        command_line.run(failing(missing), "fail", extra="index")
    assert "pandas is not installed here. Run pip install 'image-similarity[index]'." in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        command_line.run(failing(missing), "fail")
