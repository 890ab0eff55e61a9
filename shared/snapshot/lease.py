"""A lease on a snapshot: a lock that each process serving it holds. Others on this host see it, and it ends with its
process.

So a command can tell when every server has left a snapshot, and none that serves is removed.
"""

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
        if os.fstat(handle).st_nlink == 0:
            self.close()
            raise SnapshotError(f"The snapshot {folder} has no readable manifest: it was just removed.")


def is_leased(folder: Path) -> bool:
    """Tell whether any process has a lease on the snapshot in this folder."""
    with _unleased(folder) as free:
        return not free


def remove_unless_leased(folder: Path) -> bool:
    """Remove the snapshot in this folder if no process has a lease on it; return whether it did."""
    with _unleased(folder) as free:
        if free:
            shutil.rmtree(folder)
        return free


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Wait, at most so long, until no process has a lease on the snapshot in this folder; return whether none has."""
    end = time.monotonic() + seconds
    while is_leased(folder):
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
    return True


@contextmanager
def _unleased(folder: Path) -> Iterator[bool]:
    """Tell whether no process has a lease on it. Then none gets one meanwhile."""
    with ExitStack() as held:
        free = True
        try:
            file = held.enter_context((folder / "manifest.json").open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except (FileNotFoundError, NotADirectoryError):  # it is not there
            pass
        except OSError:  # nobody can tell
            free = False
        yield free
