"""The first library's two networks, from Keras: VGG19 to `block4_pool`, and InceptionResNetV2 without its top.

VGG19: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015. InceptionResNetV2: Szegedy et al.,
"Inception-v4", AAAI 2017. Both feature maps are averaged over their positions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines.conversion import convert
from shared.embedding.engines.runtime import fingerprint
from shared.embedding.engines.tensorflow_engine import tensorflow
from shared.embedding.family import Definition
from shared.errors import ModelError

_BASE = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True, slots=True)
class Application:
    """One of Keras's networks, the layer whose output is averaged, and where Keras keeps its ImageNet weights."""

    name: str
    constructor: str
    module: str
    layer: str
    dimension: int
    image_size: int
    url: str
    md5: str


APPLICATIONS = {
    "vgg19": Application(
        name="vgg19",
        constructor="VGG19",
        module="vgg19",
        layer="block4_pool",
        dimension=512,
        image_size=224,
        url=f"{_BASE}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="253f8cb515780f3b799900260a226db6",
    ),
    "inception_resnet_v2": Application(
        name="inception_resnet_v2",
        constructor="InceptionResNetV2",
        module="inception_resnet_v2",
        layer="conv_7b_ac",
        dimension=1536,
        image_size=299,
        url=f"{_BASE}/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="d19885ff4a710c122648d3b5c3b684e4",
    ),
}


class KerasApplication:
    """A `Family`. Without `weights`, Keras's ImageNet weights are downloaded once and checked by their hash."""

    def __init__(self, application: Application, weights: Path | None = None) -> None:
        self.name = self.source = application.name
        self._application = application
        self.weights = (weights or _downloaded(application),)

    @cached_property
    def fingerprint(self) -> str:
        app = self._application
        return fingerprint(f"{app.name} {app.layer} average, keras preprocessing, white square 1", *self.weights)

    @property
    def spec(self) -> EmbedderSpec:
        app = self._application
        return EmbedderSpec(app.name, app.dimension, app.image_size, self.fingerprint)

    def define(self) -> Definition:
        tf = tensorflow()
        app = self._application
        module = getattr(tf.keras.applications, app.module)
        shape = (app.image_size, app.image_size, 3)
        model = getattr(module, app.constructor)(include_top=False, weights=None, input_shape=shape)
        try:
            model.load_weights(str(self.weights[0]))
        except Exception as error:  # h5py and Keras raise a dozen types for a wrong file
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"{self.weights[0]} does not hold the weights of {app.name}: {reason}") from error
        features = _folded(tf.keras.Model(model.input, model.get_layer(app.layer).output))

        def network(images: Any) -> Any:
            return tf.reduce_mean(features(module.preprocess_input(images), training=False), axis=(1, 2))

        return Definition(network, app.image_size)

    def convert(self, folder: Path) -> None:
        convert(self, folder)


def _folded(model: Any) -> Any:
    """Build the same network with each batch normalisation folded into the convolution before it."""
    keras = tensorflow().keras
    layers = keras.layers
    norms = {}
    for layer in model.layers:
        consumers = [node.operation for node in layer._outbound_nodes]
        if isinstance(layer, layers.Conv2D) and [type(c) for c in consumers] == [layers.BatchNormalization]:
            norms[layer.name] = consumers[0]
    folded = {norm.name for norm in norms.values()}

    class Nothing(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
            return inputs

    def clone(layer: Any) -> Any:
        if layer.name in norms:
            return layers.Conv2D.from_config({**layer.get_config(), "use_bias": True})
        if layer.name in folded:
            return Nothing(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if norm := norms.get(layer.name):
            scale = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
            scale = scale * norm.gamma.numpy() if norm.scale else scale
            bias = layer.bias.numpy() if layer.use_bias else 0.0
            shift = (norm.beta.numpy() if norm.center else 0.0) + (bias - norm.moving_mean.numpy()) * scale
            copy.get_layer(layer.name).set_weights([layer.kernel.numpy() * scale, shift])
        elif layer.weights and layer.name not in folded:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _downloaded(app: Application) -> Path:
    name = app.url.rpartition("/")[2]
    kept = Path.home() / ".keras" / "models" / name
    if kept.is_file() and hashlib.md5(kept.read_bytes()).hexdigest() == app.md5:
        return kept  # without loading TensorFlow
    tf = tensorflow()
    try:
        return Path(tf.keras.utils.get_file(name, app.url, cache_subdir="models", file_hash=app.md5))
    except Exception as error:  # Keras raises a bare Exception for a failed download
        raise ModelError(
            f"The ImageNet weights of {app.name} cannot be downloaded ({error}). Fetch {app.url} on a machine that "
            f"can, put the file in ~/.keras/models/{name} or give its path as WEIGHTS=, "
            "or use MODEL=efficientnet_lite2, whose weights are installed already."
        ) from error
