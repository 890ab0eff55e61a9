"""Every option of the server, read once: a flag beats the environment, which beats the default.

The command hands them to gunicorn's processes through the environment, for a command line shows secrets to everybody.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

_NETWORKS = "SIMILARITY_NETWORKS"
_SECRET = "Better in the environment than on a command line."


def _option(name: str, help: str, default: Any = None, kind: Any = None) -> click.Option:
    flag = "--" + name.replace("_", "-")
    shown = default is not None
    return click.Option(
        [flag], envvar=f"SIMILARITY_{name.upper()}", help=help, default=default, show_default=shown, type=kind
    )


def tell_workers(networks: Path) -> None:
    """Let the processes that this one starts from now on know where the embedding process listens."""
    os.environ[_NETWORKS] = str(networks)


OPTIONS = [
    _option("data", "Folder of snapshots.", "data", click.Path(path_type=Path, resolve_path=True)),
    _option("host", "Address to serve on.", "127.0.0.1"),
    _option("port", "Port to serve on.", 8000, click.IntRange(1, 65535)),
    _option("workers", "Server processes.", 2, click.IntRange(1, 256)),
    _option("depot", "Follow this depot: s3://bucket/prefix or file:///folder."),
    _option("keep", "Snapshots kept on this host, where it follows a depot.", 5, click.IntRange(1)),
    _option("photo_hosts", "Hosts that photos are fetched from by URL, with commas between; without it from none."),
    _option("signing_key", f"Secret that snapshots must be signed with. {_SECRET}"),
    _option("admin_key", f"Secret that lets POST /admin/reload in; without it there is no such thing. {_SECRET}"),
]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What to serve, where, and whom to trust."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    depot: str | None = None
    keep: int = 5
    signing_key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    photo_hosts: str | None = None
    networks: Path | None = None
    """Where the embedding process listens. Not an option: gunicorn's master tells its workers."""

    @classmethod
    def from_environment(cls) -> "ServerConfig":
        """What the command was told. For gunicorn's processes."""
        networks = os.environ.get(_NETWORKS)
        options = click.Command("serve", params=[*OPTIONS]).make_context("serve", []).params
        return cls(**options, networks=Path(networks) if networks else None)

    def environment(self) -> Mapping[str, str]:
        """This process's environment, and all of this in it."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {f"SIMILARITY_{name.upper()}": str(value) for name, value in told.items() if value is not None}
        return {**os.environ, **kept}
