"""A user's own network: a saved Keras model that takes RGB 0..255 at a fixed size, its preprocessing inside."""

from functools import cached_property
from pathlib import Path
from typing import Any

from shared.embedding.engines.conversion import convert
from shared.embedding.engines.runtime import fingerprint
from shared.embedding.engines.tensorflow_engine import tensorflow
from shared.embedding.family import Definition
from shared.errors import ModelError


class SavedModel:
    """A `Family`. An output with positions `(n, h, w, d)` is averaged over them."""

    name, spec = "saved", None

    def __init__(self, path: Path) -> None:
        self.source, self.weights = str(path), (path,)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("saved keras model, white square 1", *self.weights)

    def define(self) -> Definition:
        tf, model = tensorflow(), _loaded(self.weights[0])

        def network(images: Any) -> Any:
            features = model(images, training=False)
            return tf.reduce_mean(features, axis=(1, 2)) if len(model.output_shape) == 4 else features

        return Definition(network, model.input_shape[1])

    def convert(self, folder: Path) -> None:
        convert(self, folder)


def _loaded(path: Path) -> Any:
    """The Keras model. Raises `ModelError`."""
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
