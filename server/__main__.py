"""The command line: `python -m server --data ./data --port 8000`."""

import os
import sys
from pathlib import Path

import click

from shared.errors import SimilarityError
from shared.snapshot import partitions

_CONFIG = Path(__file__).with_name("gunicorn.conf.py")


@click.command()
@click.option("--data", envvar="SIMILARITY_DATA", default="data", show_default=True, type=click.Path(path_type=Path))
@click.option("--host", envvar="SIMILARITY_HOST", default="127.0.0.1", show_default=True)
@click.option("--port", envvar="SIMILARITY_PORT", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", envvar="SIMILARITY_WORKERS", default=2, show_default=True, type=click.IntRange(1, 256))
def main(data: Path, host: str, port: int, workers: int) -> None:
    """Serve every snapshot of the data folder over HTTP, under gunicorn."""
    names = ", ".join(map(str, partitions(data))) or "none yet (make index, or make demo)"
    print(f"Serving http://{host}:{port} from {data.resolve()}: {names}", flush=True)
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(_CONFIG), "--workers", str(workers)]
    application = f"server.app:serve({str(data.resolve())!r})"
    os.execv(sys.executable, [*gunicorn, "--bind", f"{host}:{port}", application])


def run() -> None:
    """Run, and turn an error that is meant for people into one sentence and exit status 1."""
    try:
        main(prog_name="python -m server")
    except SimilarityError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run()
