"""Every option of the server, read once: a flag beats the environment, which beats the default.

The command hands them to gunicorn's processes through the environment, for a command line shows secrets to everybody.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from shared.embedding.engines.runtime import Engine, Runtime, cores

_PROCESSES = "SIMILARITY_PROCESSES"
# Pictures of more bytes are given back to the system when they were seen; by default the C library keeps them. And
# OpenBLAS has no threads: where the processors were busy, a worker that started waited for them for ever.
_LIBRARIES = {"MALLOC_MMAP_THRESHOLD_": "1000000", "OPENBLAS_NUM_THREADS": "1"}
_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # as prometheus_client wants it
_LOG_FORMATS = ("text", "json")
_SECRET = "Better in the environment than on a command line."


def _option(name: str, help: str, default: Any = None, kind: Any = None) -> click.Option:
    flag = "--" + name.replace("_", "-")
    shown = default is not None
    return click.Option(
        [flag], envvar=f"SIMILARITY_{name.upper()}", help=help, default=default, show_default=shown, type=kind
    )


def tell_workers(processes: Path, metrics: Path) -> None:
    """Tell the processes that this one starts from now on their shared folder, and where to count."""
    os.environ[_PROCESSES], os.environ[_METRICS] = str(processes), str(metrics)


def metrics_folder() -> str | None:
    """The folder in which the processes of this server count, or None if there is one only."""
    return os.environ.get(_METRICS)


def traces_wanted() -> bool:
    """Tell whether OpenTelemetry has an address to send traces to; its own variables say the rest."""
    return "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ


_FILE = click.Path(path_type=Path, resolve_path=True)
OPTIONS = [
    _option("data", "Folder of snapshots.", "data", _FILE),
    _option("host", "Address to serve on.", "127.0.0.1"),
    _option("port", "Port to serve on.", 8000, click.IntRange(1, 65535)),
    _option("workers", "Server processes.", 2, click.IntRange(1, 256)),
    _option("depot", "Follow this depot: s3://bucket/prefix or file:///folder."),
    _option("keep", "Snapshots kept on this host, where it follows a depot.", 5, click.IntRange(1)),
    _option("photo_hosts", "Hosts that photos are fetched from by URL, with commas between; without it from none."),
    _option("signing_key", f"Secret that snapshots must be signed with. {_SECRET}"),
    _option("admin_key", f"Secret that opens the admin routes; without it or KEYS there are none. {_SECRET}"),
    _option("keys", "File of API keys (python -m server keys add); then every question needs one.", None, _FILE),
    _option("cors_origins", "Pages of these origins may ask too, from a browser: https://shop.example,https://.."),
    _option(
        "log_format", "text, for people, or json: a line for each request too.", "text", click.Choice(_LOG_FORMATS)
    ),
    _option("image_url", "Where images lie that a live change names by their ids: {id}, {size}, any attribute."),
    _option(
        "engine",
        "What runs networks: auto, openvino or tensorflow.",
        "auto",
        click.Choice([engine.value for engine in Engine]),
    ),
    _option("rate", "How often each key, or each address without KEYS, may ask: 600 (a minute), 10/second.."),
    _option("proxy", "Proxies that are believed whose request it is: addresses or networks, with commas between."),
]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The options of a server."""

    data: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    depot: str | None = None
    keep: int = 5
    signing_key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    keys: Path | None = None
    rate: str | None = None
    proxy: str | None = None
    cors_origins: str | None = None
    log_format: str = "text"
    image_url: str | None = None
    photo_hosts: str | None = None
    engine: Engine = Engine.AUTO
    processes: Path | None = None
    """The folder that all processes share. Not an option: gunicorn's master tells its workers."""

    @property
    def photos_at_once(self) -> int:
        """The number of photos that all workers embed at the same time, each with the threads of `runtime`: one more
        than the cores hold, so that they have work while one's last view ends."""
        return cores() // self.runtime.threads + 1

    @property
    def runtime(self) -> Runtime:
        """The engine and its threads: four, for a photo is seen in four views and more would wait."""
        return Runtime(self.data / "networks", Engine(self.engine), min(4, cores()))

    @classmethod
    def from_environment(cls) -> "ServerConfig":
        """Read the options from the environment, for gunicorn's processes."""
        processes = os.environ.get(_PROCESSES)
        options = click.Command("serve", params=[*OPTIONS]).make_context("serve", []).params
        return cls(**options, processes=Path(processes) if processes else None)

    def environment(self) -> Mapping[str, str]:
        """This process's environment with these options in it."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {f"SIMILARITY_{name.upper()}": str(value) for name, value in told.items() if value is not None}
        return {**_LIBRARIES, **os.environ, **kept}
