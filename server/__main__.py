"""The command line: `python -m server --data ./data --port 8000` serves; `similar` and `search` answer in the
terminal; `keys` and `journal` care for files."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from server import cli as ask
from server.config import OPTIONS, ServerConfig
from server.middleware import api_keys as keys
from server.middleware.rate_limits import Proxies, parse_rate
from shared.command_line import DefaultGroup, run
from shared.snapshot.directory import partitions
from shared.storage.buckets import open_bucket

_CONFIG = Path(__file__).with_name("gunicorn.conf.py")


@click.group(cls=DefaultGroup, default="serve")
def main() -> None:
    """Answer questions about what looks alike."""


main.add_command(keys.commands)
main.add_command(ask.similar)
main.add_command(ask.search)
main.add_command(ask.journal)


@main.command(params=[*OPTIONS])
def serve(**options: Any) -> None:
    """Serve every snapshot of the data folder over HTTP, under gunicorn."""
    config = ServerConfig(**options)
    if config.depot:
        open_bucket(config.depot)  # a wrong name is said now
    if config.keys:
        keys.read_keys(config.keys)
    if config.rate:
        parse_rate(config.rate)
    Proxies(config.proxy or "")
    names = ", ".join(map(str, partitions(config.data))) or "none yet (make index, or make demo)"
    if config.log_format == "text":
        print(f"Serving http://{config.host}:{config.port} from {config.data}: {names}", flush=True)
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(_CONFIG), "--workers", str(config.workers)]
    os.execve(
        sys.executable,
        [*gunicorn, "--bind", f"{config.host}:{config.port}", "server.app:serve()"],
        config.environment(),
    )


if __name__ == "__main__":
    run(main, "server")
