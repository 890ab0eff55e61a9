"""The command line: `python -m server --data ./data --port 8000` serves; `similar` and `search` ask from here."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from server.ask import search, similar
from server.config import OPTIONS, ServerConfig
from shared.buckets import open_bucket
from shared.errors import SimilarityError
from shared.snapshot import partitions

_CONFIG = Path(__file__).with_name("gunicorn.conf.py")


@click.group(params=[*OPTIONS], invoke_without_command=True)
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Serve every snapshot of the data folder over HTTP, under gunicorn; or, with a command, ask one from here."""
    if context.invoked_subcommand:
        given = {name: options[name] for name in ("data", "signing_key")}
        context.default_map = dict.fromkeys(main.commands, given)
        return
    config = ServerConfig(**options)
    if config.depot:
        open_bucket(config.depot)  # a wrong name is said now
    names = ", ".join(map(str, partitions(config.data))) or "none yet (make index, or make demo)"
    print(f"Serving http://{config.host}:{config.port} from {config.data}: {names}", flush=True)
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(_CONFIG), "--workers", str(config.workers)]
    os.execve(
        sys.executable,
        [*gunicorn, "--bind", f"{config.host}:{config.port}", "server.app:serve()"],
        config.environment(),
    )


main.add_command(similar)
main.add_command(search)


def run() -> None:
    """Run, and turn an error that is meant for people into one sentence and exit status 1."""
    try:
        main(prog_name="python -m server")
    except SimilarityError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run()
