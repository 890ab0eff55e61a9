"""The private folder that the processes of one server share. The master makes it, and removes it at the end.

metrics/        what each process counts
rates           how often each key asked
line            the photos that are under way (see `PhotoQueue`)
workers/<pid>   what a worker serves, so that the server is ready when all of them are
workers/count   how many workers there should be
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from server.inference.photo_queue import PLACES
from server.inference.photo_state import PhotoState
from shared.storage.files import replace_atomically


class Processes:
    """The shared folder, as the master and every worker see it."""

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

    def tell(self, serving: Mapping[str, PhotoState]) -> None:
        """Tell the other workers what this one serves, by partition."""
        with suppress(OSError):  # the server is ending
            replace_atomically(
                self._workers / str(os.getpid()),
                json.dumps({name: str(state) for name, state in serving.items()}).encode(),
            )

    def expect(self, count: int) -> None:
        """Tell the workers how many of them there should be."""
        replace_atomically(self._workers / "count", str(count).encode())

    def told(self) -> dict[int, dict[str, PhotoState]]:
        """Process id -> what that worker serves, by partition."""
        found = {}
        for path in self._workers.glob("[0-9]*"):
            with suppress(OSError, ValueError):
                serving = json.loads(path.read_bytes())
                found[int(path.name)] = {name: PhotoState.parse(text) for name, text in serving.items()}
        return found

    def states(self) -> list[dict[str, PhotoState]]:
        """What each worker serves, by partition: nothing in those that are still starting."""
        told = [*self.told().values()]
        with suppress(OSError, ValueError):  # nobody said how many there should be
            told += [{}] * (int((self._workers / "count").read_bytes()) - len(told))
        return told

    def ended(self, pid: int) -> None:
        """Remove the message of a worker that has ended."""
        (self._workers / str(pid)).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
