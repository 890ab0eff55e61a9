"""A signal: a file that any process of this host touches to wake those who wait for something to change.

The processes of one server, and of several over one data folder, need not know each other.
"""

import time
from pathlib import Path

_TICK = 0.1


class ReloadSignal:
    """Lies in the data folder. Each waiter has one of its own."""

    def __init__(self, data: Path) -> None:
        self._path = data / ".reload"
        self._heard = self._rung()

    def ring(self) -> None:
        """Wake everybody who waits, now or at their next `wait`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()

    def wait(self, seconds: float) -> bool:
        """Wait until it rings or the time is over; tell whether it rang."""
        end = time.monotonic() + seconds
        while self._rung() == self._heard:
            if time.monotonic() >= end:
                return False
            time.sleep(_TICK)
        self._heard = self._rung()
        return True

    def _rung(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0
