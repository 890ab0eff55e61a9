"""A user's own network: a saved Keras model that takes RGB 0..255 at a fixed size, its preprocessing inside."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.embedders import EmbedderSpec
from shared.embedders.runtime import compiled, fingerprint, tensorflow
from shared.errors import ModelError
from shared.images import Picture
from shared.vectors import Vectors


class SavedModel:
    """An `Embedder`. An output with positions `(n, h, w, d)` is averaged over them."""

    def __init__(self, path: Path) -> None:
        self.weights = (path,)

    @cached_property
    def spec(self) -> EmbedderSpec:
        size, dimension = self._model.input_shape[1], self._model.output_shape[-1]
        return EmbedderSpec("saved", dimension, size, fingerprint("saved keras model, white square 1", *self.weights))

    def embed(self, images: Picture) -> Vectors:
        return self._network(images)

    @cached_property
    def _model(self) -> Any:
        path = self.weights[0]
        try:
            # safe_mode refuses models that carry code
            model = tensorflow().keras.models.load_model(path, compile=False, safe_mode=True)
        except ModelError:
            raise
        except Exception as error:  # Keras raises a dozen types for a wrong file
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"{path} cannot be loaded as a saved Keras model: {reason}") from error
        takes, gives = model.input_shape, model.output_shape
        if not isinstance(takes, tuple) or len(takes) != 4 or takes[1] is None or takes[1] != takes[2] or takes[3] != 3:
            raise ModelError(f"{path} takes {takes}; a model must take square RGB images of a fixed size.")
        if not isinstance(gives, tuple) or len(gives) not in (2, 4) or gives[-1] is None:
            raise ModelError(f"{path} gives {gives}; a model must give one vector, or one feature map, per image.")
        return model

    @cached_property
    def _network(self) -> Callable[[Picture], Vectors]:
        tf, model = tensorflow(), self._model

        def network(images: Any) -> Any:
            features = model(images, training=False)
            return tf.reduce_mean(features, axis=(1, 2)) if len(model.output_shape) == 4 else features

        return compiled(network, self.spec.image_size)
