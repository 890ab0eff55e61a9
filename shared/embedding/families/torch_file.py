"""Read the tensors of a file in PyTorch's old format with numpy alone.

The format, as `torch.save` wrote it before 1.6: three pickled headers (magic number, protocol version, system), a
pickled state dict in which each storage is a persistent id, a pickled list of storage keys, then for each key an int64
count and the raw little-endian values. Tensors may be strided views of their storage. The unpickler admits the names
that such a file needs and nothing else, so a crafted file cannot run code.
"""

import math
import os
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from shared.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuilt(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    key, dtype = storage
    return _Tensor(key, dtype, offset, tuple(shape), tuple(stride))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"the name {module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return key, dtype


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors by name. Raises `ModelError` if the file is missing, cut short or not of this format."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"The weights file {path} cannot be read: {error}. Reinstall the package.") from error


def _read(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("it does not begin as a PyTorch file of the old format does")
    for _ in range(2):
        _Unpickler(file).load()
    state = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    dtypes = {tensor.key: np.dtype(tensor.dtype) for tensor in state.values()}
    storages = {key: _storage(file, dtypes[key]) for key in keys}
    return {name: _view(storages[tensor.key], tensor) for name, tensor in state.items()}


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    (count,) = np.frombuffer(_exactly(file, 8), "<i8")
    return np.frombuffer(_exactly(file, int(count) * dtype.itemsize), dtype)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if 0 <= size <= os.fstat(file.fileno()).st_size else b""
    if len(data) != size:
        raise ValueError("it ends too early")
    return data


def _view(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Build a tensor as a strided view: honour size and stride, inside the storage's bounds."""
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if (
        min((tensor.offset, *tensor.shape, *tensor.stride)) < 0
        or max(last, math.prod(tensor.shape) - 1) >= storage.size
    ):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    return as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False).copy()
