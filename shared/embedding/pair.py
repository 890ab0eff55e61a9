"""Pairs: two networks as one.

The vector is both heads, each to length 1 and weighted. Behind it stands the middle of the first network that has one.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.embedding.engines.runtime import fingerprint
from shared.images.decode import Picture
from shared.vectors.unit import Vectors, fuse

# How much a network counts beside another: by how often unlabelled photos found their groceries (docs/quality.md).
_COUNTS = {"clip_vit_b16": 7.0}
_OTHERS = 3.0


class Fused:
    """An `Embedder` over two. Images come at the larger of the two sizes and are reduced for the other."""

    def __init__(self, *parts: Embedder) -> None:
        self._parts = parts

    def files(self) -> tuple[Path, ...]:
        return tuple(path for part in self._parts for path in part.files())

    @cached_property
    def spec(self) -> EmbedderSpec:
        specs = [part.spec for part in self._parts]
        heads = sum(spec.plain_dimension for spec in specs)
        middle = next(filter(None, (spec.dimension - spec.plain_dimension for spec in specs)), 0)
        joined = "fused " + " ".join(
            f"{count} {spec.fingerprint}" for count, spec in zip(self._counts, specs, strict=True)
        )
        return EmbedderSpec(
            name="+".join(spec.name for spec in specs),
            dimension=heads + middle,
            image_size=max(spec.image_size for spec in specs),
            fingerprint=fingerprint(joined),
            plain_dimension=heads,
            views=min(spec.views for spec in specs),
        )

    def embed(self, images: Picture) -> Vectors:
        raw = [part.embed(_resized(images, part.spec.image_size)) for part in self._parts]
        heads = [values[:, : part.spec.plain_dimension] for values, part in zip(raw, self._parts, strict=True)]
        behind = [values[:, part.spec.plain_dimension :] for values, part in zip(raw, self._parts, strict=True)]
        middle = next((values for values in behind if values.shape[1]), behind[0])
        return np.concatenate([fuse(heads, self._counts), middle], axis=1)

    @property
    def _counts(self) -> list[float]:
        return [_COUNTS.get(part.spec.name, _OTHERS) for part in self._parts]


def _resized(images: Picture, size: int) -> Picture:
    if images.shape[1] == size:
        return images
    resample = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), resample)) for image in images])
