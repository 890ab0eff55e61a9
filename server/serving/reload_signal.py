"""The reload signal: a file that any process of this host touches to wake the processes that wait for changes.

The processes of one server, and of several over one data folder, need not know each other.
"""

import time
from pathlib import Path

_TICK = 0.1


class ReloadSignal:
    """The signal of a data folder. Each thread that waits has an object of its own."""

    def __init__(self, data: Path) -> None:
        self._path = data / ".reload"
        self._seen = self._touched()

    def ring(self) -> None:
        """Wake all that wait, now or at their next `wait`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()

    def wait(self, seconds: float) -> bool:
        """Wait for the signal, or until the time is over. Returns whether the signal came."""
        end = time.monotonic() + seconds
        while self._touched() == self._seen:
            if time.monotonic() >= end:
                return False
            time.sleep(_TICK)
        self._seen = self._touched()
        return True

    def _touched(self) -> int:
        """The time of the file's last touch, in nanoseconds; 0 if it never was."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0
