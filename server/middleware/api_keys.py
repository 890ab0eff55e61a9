"""API keys: a file of names, roles and hashes, read again when it changes, and the commands that write it.

A key is 256 random bits, so its plain SHA-256 cannot be guessed back, as that of a password could; and what is looked
up is that hash, so the time it takes tells nothing of a key. Several keys may share a name, so that a new one can take
over from an old one.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import click

from shared.audit import Entry, audited, record, this_process
from shared.errors import ConfigError
from shared.storage.files import replacing, write_synced

_NAME = re.compile("[A-Za-z0-9._-]{1,64}")
_GRACE = 60.0  # seconds for which a file that cannot be read does not close the server
_log = logging.getLogger(__name__)


class Role(StrEnum):
    """The roles of keys."""

    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the file has it: an admin's opens what a reader's does. Times are ISO 8601, in UTC."""

    name: str
    role: Role
    sha256: str
    created: str = ""
    expires: str | None = None

    def __post_init__(self) -> None:
        fits = _NAME.fullmatch(self.name) and re.fullmatch("[0-9a-f]{64}", self.sha256)
        if not fits or (self.expires and not datetime.fromisoformat(self.expires).tzinfo):
            raise ValueError(f"{self.name!r:.80} is not a key: it needs a name and a SHA-256.")

    @property
    def id(self) -> str:
        """The id of a key, which tells it from others of its name."""
        return self.sha256[:8]

    @property
    def expired(self) -> bool:
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(UTC)


class Keys:
    """The keys that open this server: those of the file, and the one admin key of the options. For many threads."""

    def __init__(self, path: Path | None = None, admin_key: str | None = None) -> None:
        self.path = path
        own = [Key("admin-key", Role.ADMIN, _hash(admin_key.encode()))] if admin_key else []
        self._own = self._keys = {key.sha256: key for key in own}
        self._seen: object = ()
        self._tried, self._good = 0.0, time.monotonic()
        self.problem = ""

    def __bool__(self) -> bool:
        return bool(self.path or self._own)

    def holder(self, given: bytes) -> Key | None:
        """The entry of this key, unless it has expired."""
        key = self._current().get(_hash(given))
        return None if key is None or key.expired else key

    def _current(self) -> Mapping[str, Key]:
        if self.path:
            mark, now = _mark(self.path), time.monotonic()
            if mark != self._seen or (self.problem and now > self._tried + 1):
                self._seen, self._tried = mark, now
                self._read(self.path, now)
        return self._keys

    def _read(self, path: Path, now: float) -> None:
        """Read the file. If it cannot be read, the keys read before stay valid for a while, then none of them is: who
        was to be locked out may be among them."""
        try:
            self._keys = {**self._own, **{key.sha256: key for key in read_keys(path)}}
            self._good, self.problem = now, ""
        except ConfigError as error:
            closed = now > self._good + _GRACE
            then = "No key of it is valid." if closed else f"The keys read before stay valid for {_GRACE:.0f} seconds."
            if closed:
                self._keys = self._own
            if self.problem != (problem := f"{error} {then}"):
                _log.error("%s", problem)
            self.problem = problem


def read_keys(path: Path) -> list[Key]:
    """Read the keys of a file. Raises `ConfigError` if it cannot be read as one."""
    try:
        return [Key(**{**fields, "role": Role(fields["role"])}) for fields in json.loads(path.read_bytes())["keys"]]
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file of keys {path}. Make it: python -m server keys add NAME.") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"The file of keys {path} cannot be read: {error}.") from error


def _write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file. It keeps its owner and mode, for the server that reads it may be another user; a new one is
    its owner's alone."""
    before = os.umask(0o077)
    try:
        with replacing(path) as part:
            write_synced(part, json.dumps({"keys": [asdict(key) for key in keys]}, indent=1).encode() + b"\n")
            with suppress(FileNotFoundError):
                old, new = path.stat(), part.stat()
                if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                    os.chown(part, old.st_uid, old.st_gid)
                part.chmod(old.st_mode & 0o777)
    except PermissionError as error:
        raise ConfigError(f"The file of keys {path} cannot be replaced as its owner's: {error.strerror}.") from error
    finally:
        os.umask(before)


def _change(data: Path, path: Path, action: str, changed: Sequence[Key], keys: Sequence[Key]) -> None:
    """Replace the file, with an entry in the audit log before and after: no key must change unseen."""
    what = {"keys": [f"{key.name} {key.role} {key.id}" for key in changed], "file": str(path)}
    record(data, Entry(action, this_process(), what=what, outcome="begun"))
    with audited(data, action, what=what):
        _write_keys(path, keys)


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _hash(given: bytes) -> str:
    return hashlib.sha256(given).hexdigest()


@click.group("keys")
def commands() -> None:
    """Add, list and remove API keys. A running server sees the change at once."""


_DATA = click.option(
    "--data",
    envvar="SIMILARITY_DATA",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, resolve_path=True),
    help="Folder of the audit log.",
)
_FILE = click.option(
    "--keys",
    "path",
    envvar="SIMILARITY_KEYS",
    required=True,
    type=click.Path(path_type=Path, resolve_path=True),
    help="File of keys.",
)


@commands.command()
@_FILE
@_DATA
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default="read", show_default=True, help="What it opens."
)
@click.option("--days", type=click.IntRange(1, 36_500), help="Days until it expires.  [default: never]")
def add(path: Path, data: Path, name: str, role: str, days: int | None) -> None:
    """Make a key and show it, once: the file has its hash only."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"A key cannot be named {name!r:.80}. Use 1 to 64 letters, digits, dots, dashes, underscores."
        )
    keys = read_keys(path) if path.exists() else []
    # The beginning lets scanners of leaked secrets know it.
    secret, now = "similarity_" + secrets.token_urlsafe(32), datetime.now(UTC)
    ends = (now + timedelta(days)).isoformat(timespec="seconds") if days else None
    key = Key(name, Role(role), _hash(secret.encode()), now.isoformat(timespec="seconds"), ends)
    _change(data, path, "keys add", [key], [*keys, key])
    click.echo(secret)
    click.echo(f"This is the {role} key {key.id} of {name}. It is not shown again.", err=True)


@commands.command("list")
@_FILE
def show(path: Path) -> None:
    """List the keys."""
    for key in read_keys(path):
        ends = f"{'expired' if key.expired else 'expires'} {key.expires}" if key.expires else ""
        click.echo(f"{key.id}  {key.role:5}  {key.name:24}  {key.created}  {ends}".rstrip())


@commands.command()
@_FILE
@_DATA
@click.argument("which")
def remove(path: Path, data: Path, which: str) -> None:
    """Remove the keys of a name, or the one of an id that `list` shows."""
    keys = read_keys(path)
    gone = [key for key in keys if which in (key.name, key.id)]
    if not gone:
        raise ConfigError(f"There is no key {which!r:.80} in {path}.")
    _change(data, path, "keys remove", gone, [key for key in keys if key not in gone])
    click.echo(f"Removed: {len(gone)}.")
