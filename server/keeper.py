"""Keeps the embedding process alive: gunicorn's master starts it, and starts it again when it dies."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared.errors import ConfigError

_log = logging.getLogger(__name__)
_LONGEST_ADDRESS = 107  # bytes, of a unix domain socket on Linux
_BETWEEN_STARTS = 1.0


class Keeper:
    """The process, and the private folder of its socket and of what all processes count. Used by one thread.

    Raises `ConfigError`.
    """

    def __init__(self) -> None:
        folder = _private_folder()
        self.address, self.metrics = folder / "networks", folder / "metrics"
        self.metrics.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def keep(self) -> None:
        """Start it where it does not run. To be called every second or so."""
        if (self._process and self._process.poll() is None) or time.monotonic() - self._started < _BETWEEN_STARTS:
            return
        if self._process:
            _log.error("The embedding process ended, and is started again")
        self._started = time.monotonic()
        command = [sys.executable, "-m", "server.embedding", str(self.address), str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(self) -> None:
        """End it, and remove the folder."""
        if self._process:
            self._process.kill()  # it keeps nothing
            self._process.wait()
        shutil.rmtree(self.address.parent, ignore_errors=True)


def _private_folder() -> Path:
    """A new folder that only this user can enter, with a path that is short enough for a socket in it."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(parent)) < _LONGEST_ADDRESS - len("/image-similarity-xxxxxxxx/networks"):
            return Path(tempfile.mkdtemp(prefix="image-similarity-", dir=parent))
    raise ConfigError(f"The path of the temporary folder is too long for a socket: {tempfile.gettempdir()}.")
