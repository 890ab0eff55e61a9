"""The README names every option and every make target, and they exist."""

import re

import click
import pytest

from bench.__main__ import main as bench
from indexer.__main__ import main as indexer
from server.__main__ import main as server
from tests.support.project import ROOT

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = [*indexer.commands.values(), server.commands["serve"], bench]
VARIABLES = sorted({str(option.envvar) for command in COMMANDS for option in command.params if option.envvar})


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_option_is_documented_and_a_make_variable(variable: str) -> None:
    name = variable.removeprefix("SIMILARITY_")
    assert re.search(rf"`{name}`", README)
    assert name in re.search(r"VARIABLES := ((?:.*\\\n)*.*)", MAKEFILE)[1].split()  # type: ignore[index]


def test_every_option_has_a_make_variable_of_its_own() -> None:
    for command in COMMANDS:
        for option in command.params:
            assert not isinstance(option, click.Option) or option.envvar, option.name


def test_every_make_target_is_documented() -> None:
    for target in re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE):
        assert f"make {target}" in README


def test_every_make_variable_is_an_option() -> None:
    names = re.search(r"VARIABLES := ((?:.*\\\n)*.*)", MAKEFILE)[1].replace("\\", "").split()  # type: ignore[index]
    assert {f"SIMILARITY_{name}" for name in names} == set(VARIABLES)
