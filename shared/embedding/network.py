"""A network as one of the engines runs it: the `Embedder` over a family."""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import RLock

import numpy as np

from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.embedding.engines.conversion import NotConvertible, convert_apart
from shared.embedding.engines.openvino_engine import FILES, ConvertedNetwork
from shared.embedding.engines.runtime import Engine, Runtime
from shared.embedding.engines.tensorflow_engine import compiled
from shared.embedding.family import Family
from shared.errors import ModelError
from shared.images.decode import Picture
from shared.vectors.unit import Vectors


class Network:
    """An `Embedder`, built when it is first needed. Safe to use from many threads."""

    def __init__(self, family: Family, runtime: Runtime) -> None:
        self._family, self._runtime, self._building = family, runtime, RLock()

    @property
    def spec(self) -> EmbedderSpec:
        return self._family.spec or self._network.spec

    def embed(self, images: Picture) -> Vectors:
        return self._network.embed(images)

    def files(self) -> Sequence[Path]:
        return self._network.files()

    @property
    def _network(self) -> Embedder:
        with self._building:
            return self._built

    @cached_property
    def _built(self) -> Embedder:
        if not self._runtime.uses_openvino:
            return _TensorFlowNetwork(self._family)
        try:
            return converted(self._family, self._runtime)
        except NotConvertible:
            if self._runtime.engine is Engine.OPENVINO:
                raise
            return _TensorFlowNetwork(self._family)


class _TensorFlowNetwork:
    """An `Embedder` that TensorFlow runs."""

    def __init__(self, family: Family) -> None:
        definition = family.define()
        self._weights, self._run, size = family.weights, compiled(definition), definition.size
        self.spec = family.spec or EmbedderSpec(
            family.name, self._run(np.zeros((1, size, size, 3), np.uint8)).shape[1], size, family.fingerprint
        )

    def embed(self, images: Picture) -> Vectors:
        return self._run(images)

    def files(self) -> Sequence[Path]:
        return self._weights


def converted(family: Family, runtime: Runtime) -> ConvertedNetwork:
    """The network as OpenVINO runs it, converted now if it was not before. Raises as `Family.convert` does."""
    place = runtime.place(family.fingerprint)
    with suppress(ModelError):  # there is none, or it is damaged
        network = ConvertedNetwork(place / FILES[0], runtime)
        if network.spec == (family.spec or network.spec) and network.spec.fingerprint == family.fingerprint:
            return network
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".converting-", dir=place.parent))
    try:
        convert_apart(family, folder)
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # another process was quicker
            folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ConvertedNetwork(place / FILES[0], runtime)
