"""API keys: the command that makes them, and the header that sends them."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from server.__main__ import main


def command(path: Path, *words: str) -> str:
    """What `python -m server keys` prints for a file of keys."""
    done = CliRunner().invoke(main, ["keys", words[0], "--keys", str(path), *words[1:]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def bearing(key: str) -> dict[str, Any]:
    """What to give to a test client so that it sends a key."""
    return {"headers": {"Authorization": f"Bearer {key}"}}
