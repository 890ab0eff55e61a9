"""Build queries from a photo: of the whole of it, or of the window in which its thing lies.

A photo is embedded in a few views of the whole. If these are not sure of a product, and the photo shows things on a
ground, so are the windows around them; one is searched if its first hit is clearly more believable. A judge decides
at each index run whether that wins on the catalog (`indexer/quality/calibrate.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.errors import BadPicture
from shared.images.crop import Crop
from shared.images.decode import Picture, decode
from shared.images.views import VIEWS
from shared.images.windows import QUARTERS, shared_part, windows
from shared.refusals import Kind, Refusal
from shared.search.params import TEN
from shared.search.queries import Parts, Query
from shared.search.ranking import nearest_to
from shared.snapshot.verdicts import QueryKind, evidence
from shared.snapshot.view import SnapshotView
from shared.vectors.projection import photo_vector
from shared.vectors.unit import Vectors, usable

MOST_PICTURES = 16  # embedded of one photo
MOST_THINGS = 5
MOST_WINDOWS = 6  # in search of one thing
_APART = 0.5  # windows that share more of the smaller one show one thing


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A query with the evidence for its first hit, and the number of that product; -1 where there is no product."""

    query: Query
    belief: float
    product: int

    @classmethod
    def of(cls, view: SnapshotView, query: Query) -> "_Candidate":
        near = nearest_to(view, view.store, query.vectors, 1, TEN, QueryKind.MIXED, frozenset())
        if not len(near.rows):
            return cls(query, -1.0, -1)
        return cls(query, float(evidence(near.scores)[0]), int(view.products.owners(near.rows[:1])[0]))

    def is_of_one_thing_with(self, other: "_Candidate") -> bool:
        """Tell whether both show one thing."""
        one, another = self.query.window, other.query.window
        return self.product == other.product or bool(one and another and shared_part(one, another) > _APART)


def photo_query(view: SnapshotView, embedder: Embedder, photo: bytes, crop: Crop | None = None) -> Query:
    """Build a query from a photo, or a part of it. Raises `BadPicture`."""
    return photo_queries(view, embedder, photo, crop)[0]


def photo_queries(
    view: SnapshotView, embedder: Embedder, photo: bytes, crop: Crop | None = None, things: int = 1
) -> list[Query]:
    """Build the queries of at most so many things in a photo, the most believable first. Raises `BadPicture`.

    Of a part of it, `crop`, only one: whoever frames a thing has found it.
    """
    picture = decode(photo, crop, embedder.spec.edge(view.several_views))
    if isinstance(picture, Refusal):
        raise BadPicture(picture.kind, picture.detail)
    whole = _query(view, embed_views(view.several_views, embedder, picture), VIEWS)
    if whole is None:
        raise BadPicture(Kind.BAD_VECTOR, "The network gives no vector for this picture. Send another one.")
    found = view.manifest.quality.windows
    if crop or not (things > 1 or (found and found.used)):
        return [whole]
    first = _Candidate.of(view, whole)
    if things == 1 and found and first.belief >= found.sure:
        return [whole]
    boxes = windows(picture, MOST_WINDOWS)
    if things > 1:
        boxes = [*boxes, *QUARTERS][: MOST_PICTURES - embedder.spec.views]
    candidates = [first]
    for box, raw in zip(boxes, embed_windows(embedder, picture, boxes), strict=True):
        if query := _query(view, raw[None], [f"window {box}"], box):
            candidates.append(_Candidate.of(view, query))
    if things == 1:
        margin = found.margin if found else 0.0
        return [candidates[clearest([candidate.belief for candidate in candidates], margin)].query]
    return _apart(sorted(candidates, key=lambda candidate: -candidate.belief), things)


def clearest(beliefs: Sequence[float] | NDArray[np.floating], margin: float) -> int:
    """Choose by the evidence for the first hits of the whole photo, which comes first, and of its windows: the whole
    one, unless a window has more by that margin."""
    best = int(np.argmax(beliefs))
    return best if beliefs[best] > beliefs[0] + margin else 0


def embed_views(several: bool, embedder: Embedder, picture: Picture) -> Vectors:
    """Embed one picture as a photo: the raw vectors of its views `(views, d)`."""
    return embedder.embed(embedder.spec.seen(picture, several))


def embed_windows(embedder: Embedder, picture: Picture, boxes: Sequence[Crop]) -> Vectors:
    """Embed parts of a picture: their raw vectors `(boxes, d)`."""
    if not boxes:
        return np.zeros((0, embedder.spec.dimension), np.float32)
    return embedder.embed(np.stack([window_of(embedder.spec, picture, box) for box in boxes]))


def window_of(spec: EmbedderSpec, picture: Picture, window: Crop) -> Picture:
    """A part of a picture as the network takes it."""
    box = window.box(picture.shape[1], picture.shape[0])
    if isinstance(box, Refusal):  # rounding left no pixel
        return spec.square(picture)
    left, top, right, bottom = box
    return spec.square(picture[top:bottom, left:right])


def _query(view: SnapshotView, raw: Vectors, names: Sequence[str], window: Crop | None = None) -> Query | None:
    """The query of raw vectors `(n, d)`, each of which is a part of that name; None if they give no direction."""

    def vector(of: Vectors) -> Vectors:
        return photo_vector(view.projection, of, view.spec.plain_dimension)

    def parts() -> Parts:
        return Parts(names[: len(raw)], np.concatenate([vector(one[None]) for one in raw]))

    mean = vector(raw)
    return Query(mean, parts, QueryKind.PHOTO, window=window) if usable(mean).all() else None


def _apart(candidates: Sequence[_Candidate], things: int) -> list[Query]:
    """The queries of the first of these, and of those after it that show another thing elsewhere, at most so many."""
    chosen: list[_Candidate] = []
    for one in candidates:
        if not any(one.is_of_one_thing_with(other) for other in chosen):
            chosen.append(one)
    return [candidate.query for candidate in chosen[:things]]
