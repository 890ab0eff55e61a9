"""Follow the live changes of the open snapshots: read them from their journals, and embed images that wait for it."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.embedding.embedder import Embedder
from shared.errors import BadPicture, JournalDamaged, NotKept
from shared.images.decode import decode
from shared.live.journal import Journal
from shared.live.live_view import live_view
from shared.refusals import Kind, Refusal
from shared.snapshot.reader import Snapshot
from shared.snapshot.view import SnapshotView
from shared.vectors.unit import Vectors, normalise, usable

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """A partition's journal, and the view made of it: of which snapshot, at which state of the journal.

    `problem` says what of it is damaged; if it is not `readable`, that is everything.
    """

    journal: Journal
    snapshot: Snapshot
    view: SnapshotView
    state: tuple[int, int] | None = None
    problem: str = ""
    readable: bool = True


class LiveChanges:
    """The journals of a data folder's open snapshots. Used by one thread at a time."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._followed: dict[str, _Followed] = {}

    @property
    def problems(self) -> dict[str, str]:
        """Partition -> what of its live changes is damaged or cannot be read, and the remedy."""
        return {name: followed.problem for name, followed in [*self._followed.items()] if followed.problem}

    def check(self, name: str) -> None:
        """Raise `JournalDamaged` if a partition's changes cannot be read: none may be acknowledged that nobody sees."""
        followed = self._followed.get(name)
        if followed and not followed.readable:
            raise JournalDamaged(followed.problem)

    def views(self, snapshots: Mapping[str, Snapshot]) -> dict[str, SnapshotView]:
        """Partition -> its snapshot with its live changes. A damaged journal costs only what is damaged, one that
        cannot be read leaves the view as it was; either is logged once."""
        for name in self._followed.keys() - snapshots.keys():
            self._followed.pop(name).journal.close()
        return {name: self._view(name, snapshot) for name, snapshot in snapshots.items()}

    def _view(self, name: str, snapshot: Snapshot) -> SnapshotView:
        if name not in self._followed:
            self._followed[name] = _Followed(Journal(self._data, snapshot.manifest.partition), snapshot, snapshot)
        followed = self._followed[name]
        problem, readable = followed.problem, True
        try:
            state = followed.journal.state()
            if state != followed.state or followed.snapshot is not snapshot or not followed.readable:
                with followed.journal.reading() as reading:
                    # Where something is damaged all is read again, lest the rest be forgotten that was read before.
                    followed.view = live_view(snapshot, reading, None if problem else followed.view)
                    problem = followed.journal.problem(reading)
                followed.snapshot, followed.state = snapshot, state
        except NotKept as error:
            problem, readable = str(error), False
        except Exception as error:  # other partitions go on
            problem, readable = f"The live changes of {name} cannot be applied ({type(error).__name__}).", False
            if problem != followed.problem:
                _log.exception("Live changes of %s fail", name)
        if problem and problem != followed.problem:
            _log.error("%s", problem)
        followed.problem, followed.readable = problem, readable
        return followed.view if followed.snapshot is snapshot else snapshot


def embed_waiting(snapshot: SnapshotView, journal: Journal, embedder: Callable[[SnapshotView], Embedder]) -> None:
    """Embed the images of a journal that the network of this snapshot has not seen yet.

    In random order: other workers are at it, too. Raises `NotReady`, `Busy`, `NotKept`.
    """
    for seq, place in random.sample(snapshot.waiting, len(snapshot.waiting)):
        with journal.reading() as reading:
            data, done = reading.data(seq, place), reading.vectors(seq, snapshot.spec.fingerprint)
        if data is None or place in done:
            continue
        try:
            raw = raw_vectors(embedder(snapshot), [data])[0]
        except BadPicture:  # to this network; so it is not shown, and not tried again
            raw = np.full(snapshot.spec.dimension, np.nan, np.float32)
        journal.embedded(seq, place, snapshot.spec.fingerprint, raw)


def raw_vectors(embedder: Embedder, images: Sequence[bytes]) -> Vectors:
    """Embed images as the catalog's are: `(n, d)`. Raises `BadPicture`, `NotReady`, `Busy`."""
    pictures = []
    for number, data in enumerate(images, 1):
        picture = decode(data, edge=embedder.spec.image_size)
        if isinstance(picture, Refusal):
            raise BadPicture(picture.kind, f"Image {number}: {picture.detail}")
        pictures.append(embedder.spec.square(picture))
    raw = embedder.embed(np.stack(pictures))
    if not usable(normalise(raw)).all():
        raise BadPicture(Kind.BAD_VECTOR, "The network gives no vector for one of the images. Send another one.")
    return raw
