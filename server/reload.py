"""Which snapshots serve: opens what is current, swaps when that changes, and loads the networks that photos need.

A snapshot that cannot be opened is refused with a reason, and the one before it goes on serving. An answer holds on to
the snapshot that it began with; the old one is dropped when its last answer is given.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from server.doorbell import Doorbell
from shared.embedders import Embedder
from shared.errors import NotReady, SimilarityError, SnapshotError, UnknownPartition
from shared.images import Picture
from shared.partition import Partition
from shared.snapshot import Snapshot, current_id, partitions
from shared.vectors import Vectors

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
# A refused snapshot is read again now and then: it may have been seen half-copied.
_RETRY_SECONDS = 10.0
_LONGEST_WAIT = 20.0


class Network:
    """One network, loaded in the background and shared by every partition whose vectors it made."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.error = ""
        self._embedder: Embedder | None = None
        self._spec = snapshot.spec
        self._loaded = threading.Event()
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._load, args=(snapshot,), name="load-network", daemon=True).start()

    @property
    def state(self) -> str:
        """`loading`, `ready`, or why it cannot be had."""
        return self.error or ("ready" if self._loaded.is_set() else "loading")

    @property
    def embedder(self) -> Embedder:
        """An embedder that is safe to use from many threads. Raises `NotReady` while there is none."""
        self._loaded.wait(_LONGEST_WAIT)
        if self._embedder is None:
            raise NotReady(f"Photos cannot be searched now: {self.error or 'the network is still loading.'}")
        return _Guarded(self._embedder, self._one_at_a_time)

    def _load(self, snapshot: Snapshot) -> None:
        try:
            embedder = snapshot.load_embedder()
            size = self._spec.image_size
            embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # builds the graph now, not at the first photo
            self._embedder = embedder
        except SimilarityError as error:
            self.error = str(error)
            _log.error("Photos of %s cannot be searched: %s", snapshot.manifest.partition, error)
        except Exception as error:
            self.error = f"the network failed to load ({type(error).__name__})."
            _log.exception("The network of %s failed to load", snapshot.manifest.partition)
        finally:
            self._loaded.set()


class _Guarded:
    """An `Embedder` that runs one batch at a time: TensorFlow uses all cores for one already."""

    def __init__(self, embedder: Embedder, lock: threading.Lock) -> None:
        self.spec, self.weights = embedder.spec, embedder.weights
        self._embedder, self._lock = embedder, lock

    def embed(self, images: Picture) -> Vectors:
        with self._lock:
            return self._embedder.embed(images)


class Snapshots:
    """The open snapshots of a data folder. Reading is safe from many threads; `refresh` is called by one.

    `key` is what snapshots must be signed with; `problems` tells what else was refused, before it came here.
    """

    def __init__(
        self,
        data: Path,
        *,
        photos: bool = True,
        key: str | None = None,
        problems: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._data, self._key, self._problems = data, key, problems
        self._photos = photos and find_spec("tensorflow") is not None
        self._open: Mapping[str, Snapshot] = {}
        self._networks: Mapping[str, Network] = {}
        self.refused: Mapping[str, str] = {}
        self._held: dict[str, tuple[str | None, float]] = {}
        self.refresh()

    @property
    def open(self) -> Mapping[str, Snapshot]:
        """Partition (as `department/domain`) -> its snapshot, at this moment."""
        return self._open

    def get(self, partition: str) -> Snapshot:
        """The snapshot that serves a partition. Raises `UnknownPartition`."""
        try:
            return self._open[partition]
        except KeyError:
            known = ", ".join(self._open) or "none"
            raise UnknownPartition(f"There is no index of {partition!r:.80}. Indexes here: {known}.") from None

    def embedder(self, snapshot: Snapshot) -> Embedder:
        """The network for photos of that snapshot. Raises `NotReady`."""
        network = self._networks.get(snapshot.spec.fingerprint)
        if network is None:
            raise NotReady("Photos cannot be searched on this host: TensorFlow is not installed.")
        return network.embedder

    def photo_search(self, snapshot: Snapshot) -> str:
        """`off`, `loading`, `ready`, or why photos cannot be searched."""
        network = self._networks.get(snapshot.spec.fingerprint)
        return network.state if network else "off"

    def refresh(self) -> None:
        """Open what has become current. What cannot be opened is refused, and logged once."""
        fresh: dict[str, Snapshot] = {}
        refused = dict(self._problems())
        for partition in partitions(self._data):
            name = str(partition)
            serving = self._open.get(name)
            current = None
            try:
                current = current_id(self._data, partition)
                held, until = self._held.get(name, (None, 0.0))
                if name in self.refused and current == held and time.monotonic() < until:
                    refused[name] = self.refused[name]
                elif serving is None or current != serving.id:
                    serving = self._opened(partition, serving)
            except SnapshotError as error:
                refused[name], self._held[name] = str(error), (current, time.monotonic() + _RETRY_SECONDS)
                if self.refused.get(name) != str(error):
                    _log.error("The snapshot of %s is refused: %s", name, error)
            if serving:
                fresh[name] = serving
        needed = {snapshot.spec.fingerprint: snapshot for snapshot in fresh.values()} if self._photos else {}
        self._networks = {mark: self._networks.get(mark) or Network(snapshot) for mark, snapshot in needed.items()}
        self._open, self.refused = fresh, refused

    def follow(self) -> None:
        """Refresh several times a second, and when it rings, in the background."""

        def poll() -> None:
            while True:
                doorbell.wait(_POLL_SECONDS)
                try:
                    self.refresh()
                except Exception:
                    _log.exception("Looking for new snapshots failed; the open ones go on serving")

        doorbell = Doorbell(self._data)
        threading.Thread(target=poll, name="follow-snapshots", daemon=True).start()

    def _opened(self, partition: Partition, serving: Snapshot | None) -> Snapshot:
        snapshot = Snapshot.current(self._data, partition, self._key)
        _log.info("%s serves snapshot %s (before: %s)", partition, snapshot.id, serving.id if serving else "none")
        return snapshot
