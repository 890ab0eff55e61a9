"""The common parts of the command lines: a default command, and errors as one sentence."""

import os
import sqlite3
import sys
from typing import Any

import click

from shared.errors import ConfigError, SimilarityError

_SHORTEST = 8  # characters of a key that signs


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
        _check_secrets()
        command(prog_name=f"python -m {package}")
    except (SimilarityError, OSError, sqlite3.Error) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if extra is None:
            raise
        _fail(f"{error.name} is not installed here. Run pip install 'image-similarity[{extra}]'.")


def _check_secrets() -> None:
    """Refuse secrets that protect nothing. Raises `ConfigError`: an empty one would open what it was meant to close."""
    for name in ("SIMILARITY_KEYS", "SIMILARITY_ADMIN_KEY", "SIMILARITY_SIGNING_KEY"):
        if os.environ.get(name, "-").strip() == "":
            raise ConfigError(f"{name} is set, but empty. Give it a value, or do not set it.")
    if len(os.environ.get("SIMILARITY_SIGNING_KEY", "-" * _SHORTEST)) < _SHORTEST:
        raise ConfigError(f"SIMILARITY_SIGNING_KEY is shorter than {_SHORTEST} characters. Use: openssl rand -hex 32.")


def _fail(sentence: str) -> None:
    click.secho(f"Error: {sentence}", fg="red", err=True)
    sys.exit(1)
