"""The vector stores by name."""

from pathlib import Path

from shared.errors import ConfigError
from shared.index.vector_store import StoreFigures, VectorStore
from shared.vectors.unit import Vectors

NAMES = ("faiss",)


def build_store(name: str, vectors: Vectors, folder: Path, stem: str = "index") -> StoreFigures:
    """Write a store of that kind over `(n, d)` unit vectors into `folder`, as `<stem>.<name>`. Raises `ConfigError`."""
    _check(name)
    from shared.index.faiss_store import build_faiss

    return build_faiss(vectors, folder / f"{stem}.faiss")


def open_store(name: str, folder: Path, stem: str = "index", size: tuple[int, int] | None = None) -> VectorStore:
    """The store of that kind in a snapshot's folder, whose files must have been verified, of that size (count,
    dimension). Raises `ConfigError`, and `SnapshotError` where it is damaged or of another size."""
    _check(name)
    from shared.index.faiss_store import FaissStore

    return FaissStore(folder / f"{stem}.faiss", size)


def _check(name: str) -> None:
    if name not in NAMES:
        raise ConfigError(f"There is no store {name!r}. Use one of: {', '.join(NAMES)}.")
