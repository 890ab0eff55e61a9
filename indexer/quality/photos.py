"""Pictures that a snapshot is judged by: embedded as photos are, or changed first."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from indexer.ingest.cache import Cache, content_hash
from indexer.progress import Bar
from indexer.quality.simulated_photo import photographed
from shared.embedding.embedder import Embedder
from shared.images.decode import MAX_EDGE, Picture, decode
from shared.refusals import Refusal
from shared.vectors.unit import Vectors, normalise, usable

_TOGETHER = 4  # photos, of four views each: a batch


class Photos:
    """Pictures embedded as photos are, through the cache, so that a second run embeds nothing."""

    def __init__(self, embedder: Embedder, cache: Cache, *, several: bool) -> None:
        self._embedder, self._cache, self._several = embedder, cache, several
        self._views = embedder.spec.views if several else 1

    def embed(self, pictures: Sequence[bytes], *, simulate: bool = False) -> list[Vectors | None]:
        """The raw vectors of each picture's views `(views, d)`; None if it cannot be read."""
        keys = [f"{content_hash(data)} {'simulated' if simulate else 'as photo'} {self._views}" for data in pictures]
        with Bar("photos to judge by", len(pictures)) as bar:
            for at in range(0, len(pictures), _TOGETHER):
                some = dict(zip(keys[at : at + _TOGETHER], pictures[at : at + _TOGETHER], strict=True))
                self._fill(some, simulate)
                bar.advance(len(some))
        return [self._kept(key, self._views) for key in keys]

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

    def _fill(self, pictures: Mapping[str, bytes], simulate: bool) -> None:
        """Embed together the pictures that the cache lacks."""
        spec = self._embedder.spec
        edge = MAX_EDGE if simulate else spec.edge(self._several)
        seen_as = {}
        for key, data in pictures.items():
            if self._cache.has_vector(spec.fingerprint, key) or isinstance(picture := decode(data, edge=edge), Refusal):
                continue
            if simulate:
                picture = photographed(picture, np.random.default_rng(int(key[:8], 16)))
            seen_as[key] = spec.seen(picture, self._several)
        if not seen_as:
            return
        raw = self._embedder.embed(np.concatenate(list(seen_as.values())))
        for key, own in zip(seen_as, np.split(raw, len(seen_as)), strict=True):
            self._keep(key, own)

    def _keep(self, key: str, raw: Vectors) -> None:
        if usable(normalise(raw)).all():
            self._cache.put_vectors(self._embedder.spec.fingerprint, [key], raw.reshape(1, -1))

    def _kept(self, key: str, views: int) -> Vectors | None:
        spec = self._embedder.spec
        if not self._cache.has_vector(spec.fingerprint, key):
            return None
        return self._cache.vectors(spec.fingerprint, [key], views * spec.dimension).reshape(-1, spec.dimension)
