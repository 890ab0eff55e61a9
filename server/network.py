"""Networks for photos: one each, loaded in the background, kept while an open snapshot needs it.

Under gunicorn they live in one process for all workers (`embedding`, reached through `remote`); without it, as in
tests, in this one.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from shared.embedders import Embedder
from shared.errors import NotReady, SimilarityError, SnapshotError
from shared.images import Picture
from shared.snapshot import Snapshot, open_embedder
from shared.stages import stage
from shared.vectors import Vectors

LOADING = "loading"
READY = "ready"
_LONGEST_WAIT = 20.0
_RETRY_SECONDS = 30.0  # what failed may be had by then
_log = logging.getLogger(__name__)


class Networks(Protocol):
    """The networks of the open snapshots, wherever they live. Safe to use from many threads."""

    def need(self, snapshots: Iterable[Snapshot]) -> None:
        """Have the networks of these snapshots, and no others."""
        ...

    def state(self, snapshot: Snapshot) -> str:
        """`loading`, `ready`, or why its network cannot be had."""
        ...

    def embedder(self, snapshot: Snapshot) -> Embedder:
        """Its network. Raises `NotReady`, as may `embed`, which also raises `Busy`."""
        ...


class Network:
    """The network of one fingerprint, loaded in the background from a snapshot that needs it."""

    def __init__(self, fingerprint: str, folder: Path, key: str | None) -> None:
        self.error = ""
        self._begun = time.monotonic()
        self.loaded = threading.Event()
        self._embedder: Embedder | None = None
        self._fingerprint = fingerprint
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._load, args=(folder, key), name="load-network", daemon=True).start()

    @property
    def state(self) -> str:
        """`loading`, `ready`, or why it cannot be had."""
        return self.error or (READY if self.loaded.is_set() else LOADING)

    @property
    def has_failed(self) -> bool:
        """Whether it could not be had, some time ago."""
        return bool(self.error) and time.monotonic() > self._begun + _RETRY_SECONDS

    @property
    def embedder(self) -> Embedder:
        """An embedder that is safe to use from many threads. Raises `NotReady` while there is none."""
        if self._embedder is None:
            raise not_ready(self.state)
        return _Guarded(self._embedder, self._one_at_a_time)

    def _load(self, folder: Path, key: str | None) -> None:
        began = time.monotonic()
        try:
            embedder = open_embedder(folder, key)
            if embedder.spec.fingerprint != self._fingerprint:
                raise SnapshotError(f"The snapshot {folder.name} needs another network than was asked for.")
            size = embedder.spec.image_size
            embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # builds the graph now, not at the first photo
            self._embedder = embedder
            _log.info("The network %s was loaded in %.1f s", embedder.spec.name, time.monotonic() - began)
        except SimilarityError as error:
            self.error = str(error)
            _log.error("Photos of %s cannot be searched: %s", folder, error)
        except Exception as error:
            self.error = f"the network failed to load ({type(error).__name__})."
            _log.exception("The network of %s failed to load", folder)
        finally:
            self.loaded.set()


class _Guarded:
    """An `Embedder` that runs one batch at a time: TensorFlow uses all cores for one already."""

    def __init__(self, embedder: Embedder, lock: threading.Lock) -> None:
        self.spec, self.weights = embedder.spec, embedder.weights
        self._embedder, self._lock = embedder, lock

    def embed(self, images: Picture) -> Vectors:
        with self._lock, stage("embed"):
            return self._embedder.embed(images)


class LocalNetworks:
    """`Networks` in this process. `key` is what snapshots must be signed with."""

    def __init__(self, key: str | None = None) -> None:
        self._key = key
        self._networks: Mapping[str, Network] = {}

    def need(self, snapshots: Iterable[Snapshot]) -> None:
        self.need_these({snapshot.spec.fingerprint: snapshot.folder for snapshot in snapshots})

    def need_these(self, folders: Mapping[str, Path]) -> None:
        """Have the networks of these fingerprints, each to be had from a snapshot's folder. Called by one thread."""
        kept = {mark: network for mark, network in self._networks.items() if not network.has_failed}
        self._networks = {mark: kept.get(mark) or Network(mark, folder, self._key) for mark, folder in folders.items()}

    def states(self) -> Mapping[str, str]:
        """Fingerprint -> state."""
        return {mark: network.state for mark, network in self._networks.items()}

    def network(self, fingerprint: str) -> Network | None:
        """The network of that fingerprint, where an open snapshot needs it."""
        return self._networks.get(fingerprint)

    def state(self, snapshot: Snapshot) -> str:
        network = self.network(snapshot.spec.fingerprint)
        return network.state if network else LOADING

    def embedder(self, snapshot: Snapshot) -> Embedder:
        network = self.network(snapshot.spec.fingerprint)
        if network is None:
            raise not_ready(LOADING)
        network.loaded.wait(_LONGEST_WAIT)
        return network.embedder


def not_ready(state: str) -> NotReady:
    """What to tell a shopper while a network is in that state."""
    why = "the network is still loading." if state == LOADING else state
    return NotReady(f"Photos cannot be searched now: {why}")
