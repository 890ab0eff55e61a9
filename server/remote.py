"""The worker's side of the embedding process: `Networks` that live there, one copy for all workers."""

import json
import logging
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from server.network import LOADING, READY, not_ready
from server.wire import Frame, WireError, Word, receive, send
from shared.embedders import Embedder, EmbedderSpec
from shared.errors import Busy
from shared.images import Picture
from shared.snapshot import Snapshot
from shared.vectors import Vectors

_log = logging.getLogger(__name__)
_LONGEST_WAIT = 20.0
_LONGEST_NEED = 2.0


class RemoteNetworks:
    """`Networks` of the process that listens on this socket. `need` is called by one thread."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._states: Mapping[str, str] = {}

    def need(self, snapshots: Iterable[Snapshot]) -> None:
        needs = {snapshot.spec.fingerprint: str(snapshot.folder) for snapshot in snapshots}
        try:
            answer = _ask(self._address, _LONGEST_NEED, Frame(Word.NEED, body=json.dumps(needs).encode()))
            self._states = json.loads(bytes(answer.body))
        except TimeoutError:
            pass  # it is busy, and has what it had
        except (OSError, WireError):
            self._states = {}  # it is being started, which its keeper logs

    def state(self, snapshot: Snapshot) -> str:
        return self._states.get(snapshot.spec.fingerprint, LOADING)

    def embedder(self, snapshot: Snapshot) -> Embedder:
        state = self.state(snapshot)
        if state not in (READY, LOADING):  # which may be old: the process knows
            raise not_ready(state)
        return _RemoteEmbedder(self._address, snapshot.spec)


class _RemoteEmbedder:
    """An `Embedder` in the other process."""

    weights: tuple[Path, ...] = ()

    def __init__(self, address: Path, spec: EmbedderSpec) -> None:
        self._address, self.spec = address, spec

    def embed(self, images: Picture) -> Vectors:
        """Raises `NotReady`, `Busy`; `RuntimeError` where the network fails on these images."""
        body = np.ascontiguousarray(images).data.cast("B")
        try:
            answer = _ask(self._address, _LONGEST_WAIT, Frame(Word.EMBED, self.spec.fingerprint, body))
        except TimeoutError as error:
            raise Busy(f"The photo waited {_LONGEST_WAIT:.0f} seconds for the network. Send it again later.") from error
        except (OSError, WireError) as error:
            _log.warning("The embedding process cannot be reached: %s", error)
            raise not_ready(LOADING) from error
        if answer.word is Word.VECTORS:
            return np.frombuffer(answer.body, np.float32).reshape(len(images), self.spec.dimension)
        detail = bytes(answer.body).decode()
        if answer.word is Word.BUSY:
            raise Busy(detail)
        if answer.word is Word.NOT_READY:
            raise not_ready(detail)
        raise RuntimeError(detail)


def _ask(address: Path, seconds: float, question: Frame) -> Frame:
    """A connection for each question: opening one costs microseconds, and none can be stale."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(address))
        send(connection, question)
        answer = receive(connection)
    if answer is None:
        raise WireError("The embedding process ended.")
    return answer
