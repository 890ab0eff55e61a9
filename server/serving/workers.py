"""The private folder that the processes of one server share: the master makes it, and it goes with them.

metrics/        what each process counts
rates           how often each key asked
line            the photos that are under way (see `turns`)
workers/<pid>   what a worker serves, so that the server is ready when all of them are
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from server.inference.photo_queue import PLACES
from shared.storage.files import replace_atomically


class Processes:
    """The folder, as the master and every worker see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics, self.rates, self.line = folder / "metrics", folder / "rates", folder / "line"
        self._workers = folder / "workers"

    @classmethod
    def begin(cls) -> "Processes":
        """Make the folder. Only this user can enter it."""
        made = cls(Path(tempfile.mkdtemp(prefix="image-similarity-")))
        made.metrics.mkdir()
        made._workers.mkdir()
        made.line.write_bytes(bytes(8 * PLACES))
        return made

    def tell(self, serving: Mapping[str, str]) -> None:
        """Let the other workers know what this one serves: partition -> how photos are with it."""
        with suppress(OSError):  # the server is ending
            replace_atomically(self._workers / str(os.getpid()), json.dumps(serving).encode())

    def told(self) -> dict[int, dict[str, str]]:
        """Process id -> what that worker serves."""
        found = {}
        for path in self._workers.glob("[0-9]*"):
            with suppress(OSError, ValueError):
                found[int(path.name)] = json.loads(path.read_bytes())
        return found

    def ended(self, pid: int) -> None:
        """Remove what a worker told that has ended."""
        (self._workers / str(pid)).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
