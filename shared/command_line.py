"""The common parts of the command lines: a default command, and errors as one sentence."""

import sqlite3
import sys
from typing import Any

import click

from shared.errors import SimilarityError


class DefaultGroup(click.Group):
    """A group of commands, which runs `default` if no command is named."""

    def __init__(self, *arguments: Any, default: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = [self._default, *args]
        return super().parse_args(ctx, args)


def run(command: click.Command, package: str, extra: str | None = None) -> None:
    """Run `python -m package`, and turn an error that is meant for people into one sentence and exit status 1.

    `extra` names the requirements that a host may lack, as pip knows them; without it a missing library is a bug.
    """
    try:
        command(prog_name=f"python -m {package}")
    except (SimilarityError, OSError, sqlite3.Error) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if extra is None:
            raise
        _fail(f"{error.name} is not installed here. Run pip install 'image-similarity[{extra}]'.")


def _fail(sentence: str) -> None:
    click.secho(f"Error: {sentence}", fg="red", err=True)
    sys.exit(1)
