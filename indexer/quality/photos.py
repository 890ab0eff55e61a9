"""Pictures that a snapshot is judged by: embedded as photos are, or changed first."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from indexer.ingest.cache import Cache, content_hash
from indexer.progress import Bar
from indexer.quality.simulated_photo import photographed, photographed_afar
from shared.embedding.embedder import Embedder
from shared.embedding.engines.runtime import cores
from shared.images.decode import MAX_EDGE, Picture, decode
from shared.images.windows import windows
from shared.refusals import Refusal
from shared.search.photo_query import MOST_WINDOWS, window_of
from shared.vectors.unit import Vectors, normalise, usable

_TOGETHER = 4  # photos, of four views each: a batch
_AFAR = 0.2  # of the photo's area


class Shot(StrEnum):
    """The way from a picture to the photo that is searched by: none, or a simulated phone photo, close up or from
    afar."""

    AS_IT_IS = "as photo"
    CLOSE = "simulated"
    AFAR = "simulated from afar"


class EmbeddedPhoto(NamedTuple):
    """The raw vectors of a photo: of its views `(v, d)`, and of the windows around its things `(w, d)`."""

    views: Vectors
    windows: Vectors


class Photos:
    """Pictures embedded as photos are, through the cache, so that a second run embeds nothing."""

    def __init__(self, embedder: Embedder, cache: Cache, *, several: bool) -> None:
        self._embedder, self._cache, self._several = embedder, cache, several
        self._views = embedder.spec.views if several else 1

    def embed(self, pictures: Sequence[bytes], shot: Shot = Shot.AS_IT_IS) -> list[EmbeddedPhoto | None]:
        """Embed each picture as a photo; None if it cannot be read. Windows are looked for if photos have several
        views."""
        keys = [f"{content_hash(data)} {shot} {self._views}" for data in pictures]
        with ThreadPoolExecutor(cores()) as pool, Bar("photos to judge by", len(pictures)) as bar:
            for at in range(0, len(pictures), _TOGETHER):
                some = dict(zip(keys[at : at + _TOGETHER], pictures[at : at + _TOGETHER], strict=True))
                self._fill(some, shot, pool)
                bar.advance(len(some))
        return [self._embedded(key) for key in keys]

    def embed_changed(
        self, pictures: Sequence[bytes], change: Callable[[Picture], Picture], name: str
    ) -> list[Vectors | None]:
        """The raw vector `(1, d)` of each picture after a change of that name, as a catalog image; None if it cannot be
        read."""
        spec, keys = self._embedder.spec, [f"{content_hash(data)} {name}" for data in pictures]
        with Bar("pictures to judge by", len(pictures)) as bar:
            for key, data in zip(keys, pictures, strict=True):
                if not self._cache.has_vector(spec.fingerprint, key):
                    picture = decode(data, edge=2 * spec.image_size)
                    if not isinstance(picture, Refusal):
                        raw = self._embedder.embed(spec.square(change(picture))[None])
                        self._keep(key, raw)
                bar.advance()
        return [self._kept(key, 1) for key in keys]

    def _fill(self, pictures: Mapping[str, bytes], shot: Shot, pool: Executor) -> None:
        """Embed together the pictures that the cache lacks."""
        lacking = [key for key in pictures if not self._cache.has_vector(self._embedder.spec.fingerprint, key)]
        seen = pool.map(lambda key: self._seen(pictures[key], shot, int(key[:8], 16)), lacking)
        seen_as = {key: pieces for key, pieces in zip(lacking, seen, strict=True) if pieces is not None}
        if not seen_as:
            return
        raw = self._embedder.embed(np.concatenate(list(seen_as.values())))
        ends = np.cumsum([len(seen) for seen in seen_as.values()])
        for key, own in zip(seen_as, np.split(raw, ends[:-1]), strict=True):
            for number, window in enumerate(own[self._views :]):  # first: who finds the views trusts to find all
                self._keep(f"{key} window {number}", window[None])
            self._keep(key, own[: self._views])

    def _seen(self, data: bytes, shot: Shot, seed: int) -> Picture | None:
        """The views of a picture as a photo, and then its windows; None if it cannot be read."""
        spec = self._embedder.spec
        picture = decode(data, edge=spec.edge(self._several) if shot is Shot.AS_IT_IS else MAX_EDGE)
        if isinstance(picture, Refusal):
            return None
        photo = _photo(picture, shot, np.random.default_rng(seed))
        found = windows(photo, MOST_WINDOWS) if self._several else []
        return np.concatenate([spec.seen(photo, self._several), *(window_of(spec, photo, box)[None] for box in found)])

    def _keep(self, key: str, raw: Vectors) -> None:
        if usable(normalise(raw)).all():
            self._cache.put_vectors(self._embedder.spec.fingerprint, [key], raw.reshape(1, -1))

    def _embedded(self, key: str) -> EmbeddedPhoto | None:
        views = self._kept(key, self._views)
        if views is None:
            return None
        found = (self._kept(f"{key} window {number}", 1) for number in range(MOST_WINDOWS))
        kept = [window for window in found if window is not None]
        return EmbeddedPhoto(views, np.concatenate([views[:0], *kept]))

    def _kept(self, key: str, views: int) -> Vectors | None:
        spec = self._embedder.spec
        if not self._cache.has_vector(spec.fingerprint, key):
            return None
        return self._cache.vectors(spec.fingerprint, [key], views * spec.dimension).reshape(-1, spec.dimension)


def _photo(picture: Picture, shot: Shot, rng: np.random.Generator) -> Picture:
    match shot:
        case Shot.CLOSE:
            return photographed(picture, rng)
        case Shot.AFAR:
            return photographed_afar([picture], _AFAR, rng)
    return picture
