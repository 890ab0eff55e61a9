"""Two networks as one: the first library's pair, joined with equal weight."""

from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from shared.embedders import Embedder, EmbedderSpec
from shared.embedders.runtime import fingerprint
from shared.images import Picture
from shared.vectors import Vectors, fuse


class Fused:
    """An `Embedder` over two. Images come at the larger of the two sizes and are reduced for the other."""

    def __init__(self, *parts: Embedder) -> None:
        self._parts = parts

    def files(self) -> tuple[Path, ...]:
        return tuple(path for part in self._parts for path in part.files())

    @cached_property
    def spec(self) -> EmbedderSpec:
        specs = [part.spec for part in self._parts]
        return EmbedderSpec(
            name="+".join(spec.name for spec in specs),
            dimension=sum(spec.dimension for spec in specs),
            image_size=max(spec.image_size for spec in specs),
            fingerprint=fingerprint("fused equally " + " ".join(spec.fingerprint for spec in specs)),
        )

    def embed(self, images: Picture) -> Vectors:
        return fuse([part.embed(_resized(images, part.spec.image_size)) for part in self._parts])


def _resized(images: Picture, size: int) -> Picture:
    if images.shape[1] == size:
        return images
    resample = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), resample)) for image in images])
