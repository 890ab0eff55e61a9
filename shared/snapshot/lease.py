"""A lease on a snapshot: a lock that who serves it holds, that others on this host can see, and that ends with its
process. So a command can tell when every server has left a snapshot, and none that serves is removed."""

import fcntl
import os
import time
import weakref
from pathlib import Path

from shared.errors import SnapshotError

_TICK = 0.02


class Lease:
    """A lease on the snapshot in this folder, until it is closed or forgotten. Raises `SnapshotError`."""

    def __init__(self, folder: Path) -> None:
        try:
            handle = os.open(folder / "manifest.json", os.O_RDONLY)
        except OSError as error:
            raise SnapshotError(f"The snapshot {folder} has no readable manifest: {error.strerror}.") from error
        self.close = weakref.finalize(self, os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH)


def is_leased(folder: Path) -> bool:
    """Whether anybody has a lease on the snapshot in this folder."""
    try:
        with (folder / "manifest.json").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it is not there
        return False
    return False


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Wait until nobody has a lease on the snapshot in this folder, at most so long; tell whether that is so."""
    end = time.monotonic() + seconds
    while is_leased(folder):
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
    return True
