"""The networks that embed photos: each is loaded once, in the background, and kept while a snapshot needs it."""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from server.inference.photo_queue import PhotoQueue
from server.inference.photo_state import LOADING, READY, PhotoSearch, PhotoState, failed
from shared.embedding.embedder import Embedder
from shared.embedding.engines.runtime import Runtime
from shared.errors import NotReady, SimilarityError, SnapshotError
from shared.images.decode import Picture
from shared.snapshot.reader import open_embedder
from shared.snapshot.view import SnapshotView
from shared.timing import stage, took
from shared.vectors.unit import Vectors

_LONGEST_WAIT = 20.0
_KEPT_SECONDS = 30.0
_RETRY_SECONDS = 30.0  # what failed may be had by then
_log = logging.getLogger(__name__)


class Network:
    """The network of one fingerprint, loaded in the background from a snapshot that needs it."""

    def __init__(self, fingerprint: str, folder: Path, key: str | None, runtime: Runtime) -> None:
        self.state = LOADING
        self._begun = time.monotonic()
        self.loaded = threading.Event()
        self._embedder: Embedder | None = None
        self._fingerprint = fingerprint
        threading.Thread(target=self._load, args=(folder, key, runtime), name="load-network", daemon=True).start()

    @property
    def is_due_again(self) -> bool:
        """True if it failed to load, so long ago that it is worth another try."""
        return self.state.state is PhotoSearch.FAILED and time.monotonic() > self._begun + _RETRY_SECONDS

    @property
    def embedder(self) -> Embedder:
        """The loaded network. Raises `NotReady` while there is none."""
        if self._embedder is None:
            raise _not_ready(self.state)
        return self._embedder

    def _load(self, folder: Path, key: str | None, runtime: Runtime) -> None:
        began = time.monotonic()
        try:
            embedder = open_embedder(folder, runtime, key)
            if embedder.spec.fingerprint != self._fingerprint:
                raise SnapshotError(f"The snapshot {folder.name} needs another network than was asked for.")
            size = embedder.spec.image_size
            embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # builds the graph now, not at the first photo
            self._embedder, self.state = embedder, READY
            _log.info("The network %s was loaded in %.1f s", embedder.spec.name, time.monotonic() - began)
        except SimilarityError as error:
            self.state = failed(str(error))
            _log.error("Photos of %s cannot be searched: %s", folder, error)
        except Exception as error:
            self.state = failed(f"the network failed to load ({type(error).__name__}).")
            _log.exception("The network of %s failed to load", folder)
        finally:
            self.loaded.set()


class _QueuedEmbedder:
    """An `Embedder` whose photos queue among all workers. Its `embed` raises `Busy`."""

    def __init__(self, embedder: Embedder, turns: PhotoQueue) -> None:
        self.spec, self.files = embedder.spec, embedder.files
        self._embedder, self._turns = embedder, turns

    def embed(self, images: Picture) -> Vectors:
        began = time.monotonic()
        with self._turns.embedding():
            took("queue", time.monotonic() - began)
            with stage("embed"):
                return self._embedder.embed(images)


class Networks:
    """The networks of the open snapshots. `key` is the one that snapshots must be signed with. For many threads."""

    def __init__(self, key: str | None = None, runtime: Runtime | None = None, turns: PhotoQueue | None = None) -> None:
        self._key, self._runtime, self._turns = key, runtime or Runtime(), turns or PhotoQueue()
        self._networks: Mapping[str, Network] = {}
        self._until: dict[str, float] = {}

    def need(self, snapshots: Iterable[SnapshotView]) -> None:
        """Keep the networks of these snapshots, and for a while those needed before: an answer may have begun with one.

        Called by one thread.
        """
        folders = {snapshot.spec.fingerprint: snapshot.folder for snapshot in snapshots}
        now = time.monotonic()
        self._until |= dict.fromkeys(folders, now + _KEPT_SECONDS)
        kept = {mark: network for mark, network in self._networks.items() if not network.is_due_again}
        late = {mark: network for mark, network in kept.items() if mark not in folders and self._until[mark] > now}
        self._networks = late | {
            mark: kept.get(mark) or Network(mark, folder, self._key, self._runtime) for mark, folder in folders.items()
        }

    def state(self, snapshot: SnapshotView) -> PhotoState:
        """The state of that snapshot's network."""
        network = self._networks.get(snapshot.spec.fingerprint)
        return network.state if network else LOADING

    def embedder(self, snapshot: SnapshotView) -> Embedder:
        """The network of that snapshot. Raises `NotReady`; its `embed` raises `Busy`."""
        network = self._networks.get(snapshot.spec.fingerprint)
        if network is None:
            raise _not_ready(LOADING)
        network.loaded.wait(_LONGEST_WAIT)
        return _QueuedEmbedder(network.embedder, self._turns)


def _not_ready(state: PhotoState) -> NotReady:
    """The error of a photo that is sent while its network is in that state."""
    why = state.reason or "the network is still loading."
    return NotReady(f"Photos cannot be searched now: {why}")
