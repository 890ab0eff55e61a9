"""Arrays in `.npy` files: written synced, mapped into memory when they are read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SnapshotError
from shared.storage.files import write_synced


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as `.npy`, synced."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    write_synced(path, buffer.getbuffer())


def read_array(path: Path, dtype: Any, dimensions: int = 1) -> NDArray[Any]:
    """Map a `.npy` file. Raises `SnapshotError` if it is missing, damaged or of another type."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
    if array.dtype != dtype or array.ndim != dimensions:
        raise SnapshotError(f"{path} holds {array.dtype} {array.shape}; {np.dtype(dtype)} was expected.")
    return np.asarray(array)  # the map as a plain array, whose elements are read several times faster
