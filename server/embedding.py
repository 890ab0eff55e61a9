"""The embedding process: the networks that the open snapshots need, once for all workers of a host.

    python -m server.embedding <socket> <process id of gunicorn's master>

Photos of all workers wait in one bounded queue, and what waits together is embedded together. It keeps nothing, so it
may be killed at any time; it ends with the master.
"""

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingMixIn, UnixStreamServer

import numpy as np

from server import metrics as metrics  # which listen to the stages
from server.config import ServerConfig
from server.logs import set_up_logs
from server.network import LOADING, LocalNetworks
from server.wire import Frame, WireError, Word, receive, send
from shared.embedders import Embedder
from shared.errors import Busy, NotReady
from shared.images import Picture
from shared.stages import took
from shared.vectors import Vectors

MOST_WAITING = 32
_BATCH = 16  # pictures; a photo is four
_LONGEST_WAIT = 10.0
_KEPT_SECONDS = 30.0  # a worker that died is there again by then
_PARENT_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Photo:
    embedder: Embedder
    images: Picture
    since: float = field(default_factory=time.monotonic)
    vectors: Future[Vectors] = field(default_factory=Future)


class Batches:
    """The queue of photos and the one thread that embeds them, as many at once as wait for one network."""

    def __init__(self) -> None:
        self._waiting: deque[_Photo] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="embed", daemon=True).start()

    def embed(self, embedder: Embedder, images: Picture) -> Vectors:
        """Wait for one's turn; `uint8 (n, size, size, 3)` -> `float32 (n, dimension)`. Raises `Busy`."""
        photo = _Photo(embedder, images)
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} photos wait already. Send it again in some seconds.")
            self._waiting.append(photo)
            self._changed.notify()
        return photo.vectors.result()

    def _work(self) -> None:
        while True:
            batch = self._next()
            try:
                vectors = batch[0].embedder.embed(np.concatenate([photo.images for photo in batch]))
                ends = np.cumsum([len(photo.images) for photo in batch])
                for photo, own in zip(batch, np.split(vectors, ends[:-1]), strict=True):
                    photo.vectors.set_result(own)
            except Exception as error:
                _log.exception("Embedding %d photos failed", len(batch))
                for photo in batch:
                    photo.vectors.set_exception(error)

    def _next(self) -> list[_Photo]:
        """The photo that waits longest and what fits into a batch with it; what waited too long is sent away."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting)
                first = self._waiting.popleft()
                if time.monotonic() - first.since < _LONGEST_WAIT:
                    break
                first.vectors.set_exception(Busy("The photo waited too long for the network. Send it again later."))
            batch, room = [first], _BATCH - len(first.images)
            for photo in list(self._waiting):
                if photo.embedder.spec == first.embedder.spec and len(photo.images) <= room:
                    self._waiting.remove(photo)
                    batch.append(photo)
                    room -= len(photo.images)
            for photo in batch:
                took("queue", time.monotonic() - photo.since)
            return batch


class EmbeddingServer(ThreadingMixIn, UnixStreamServer):
    """Answers the workers on a socket that only this user can open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: Path, key: str | None = None) -> None:
        self.networks = LocalNetworks(key)
        self.batches = Batches()
        self._needed: dict[str, tuple[Path, float]] = {}
        self._changing = threading.Lock()
        address.unlink(missing_ok=True)  # of one that was killed
        before = os.umask(0o177)
        try:
            super().__init__(str(address), _Worker)
        finally:
            os.umask(before)

    def need(self, folders: Mapping[str, Path]) -> None:
        """Have the networks of these fingerprints, too, and drop those that nobody has needed for a while."""
        now = time.monotonic()
        with self._changing:
            self._needed |= {mark: (folder, now + _KEPT_SECONDS) for mark, folder in folders.items()}
            self._needed = {mark: need for mark, need in self._needed.items() if need[1] > now}
            self.networks.need_these({mark: folder for mark, (folder, _) in self._needed.items()})

    def answer(self, question: Frame) -> Frame:
        """The answer to one frame."""
        if question.word is Word.NEED:
            folders = json.loads(bytes(question.body))
            self.need({mark: Path(folder) for mark, folder in folders.items()})
            return Frame(Word.STATES, body=json.dumps(self.networks.states()).encode())
        if question.word is not Word.EMBED:
            raise WireError(f"A worker says {question.word.name}.")
        network = self.networks.network(question.name)
        try:
            if network is None:
                raise NotReady(LOADING)
            size = network.embedder.spec.image_size
            images = np.frombuffer(question.body, np.uint8).reshape(-1, size, size, 3)
            vectors = self.batches.embed(network.embedder, images)
            return Frame(Word.VECTORS, body=np.ascontiguousarray(vectors, np.float32).data.cast("B"))
        except NotReady:
            return Frame(Word.NOT_READY, body=(network.state if network else LOADING).encode())
        except Busy as error:
            return Frame(Word.BUSY, body=str(error).encode())
        except Exception as error:
            return Frame(Word.FAILED, body=f"The network failed ({type(error).__name__}).".encode())


class _Worker(BaseRequestHandler):
    """One connection of a worker."""

    server: EmbeddingServer

    def handle(self) -> None:
        try:
            while question := receive(self.request):
                send(self.request, self.server.answer(question))
        except OSError:
            pass  # the worker went away
        except WireError as error:
            _log.error("A worker is not understood: %s", error)


def main(address: Path, parent: int) -> None:
    """Serve until the process `parent` has ended, then remove the socket's folder."""
    config = ServerConfig.from_environment()
    set_up_logs(config.log_format)
    # Ctrl-C and a supervisor's SIGTERM reach the whole group, and the workers still have photos to finish.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    server = EmbeddingServer(address, config.signing_key)
    threading.Thread(target=server.serve_forever, name="listen", daemon=True).start()
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    while address.parent.exists():  # workers end later, and may still put something there
        shutil.rmtree(address.parent, ignore_errors=True)
        time.sleep(_PARENT_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
