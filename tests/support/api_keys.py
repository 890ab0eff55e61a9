"""API keys: the command that makes them, and the header that sends them."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from server.__main__ import main


def command(path: Path, *words: str) -> str:
    """The output of `python -m server keys` for a file of keys."""
    data = () if words[0] == "list" else ("--data", str(path.parent))
    done = CliRunner().invoke(main, ["keys", words[0], "--keys", str(path), *data, *words[1:]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def bearing(key: str) -> dict[str, Any]:
    """The arguments with which a test client sends a key."""
    return {"headers": {"Authorization": f"Bearer {key}"}}
