"""The networks as Keras has them, nothing folded or frozen: the reference to compare embedding with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.embedding.engines.bfloat16 import in_hardware
from shared.embedding.engines.tensorflow_engine import tensorflow
from shared.embedding.families.efficientnet_lite import EfficientNetLite
from shared.embedding.families.keras_applications import APPLICATIONS
from shared.embedding.families.torch_file import read_tensors
from shared.images.decode import Picture
from shared.vectors.unit import Vectors

Embed = Callable[[Picture], Vectors]

# EfficientNet-Lite2's stages: how often each block repeats, and the stride of its first.
_LITE2 = ((1, 1), (3, 2), (3, 2), (4, 2), (4, 1), (5, 2), (1, 1))


def reference(name: str, weights: Path | None) -> tuple[Embed, Embed]:
    """A network of Keras's by its weights file, or EfficientNet-Lite2 layer by layer by those of its package, in two
    ways:"""
    model, prepare = _lite2() if weights is None else _application(name, weights)
    tf = tensorflow()

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def graph(images: Any) -> Any:
        return model(prepare(tf.cast(images, tf.float32)), training=False)

    def loop(images: Picture) -> Vectors:
        floats = images.astype(np.float32)
        return np.concatenate([model.predict(prepare(floats[at : at + 1]), verbose=0) for at in range(len(floats))])

    return lambda images: np.asarray(graph(tf.constant(images))), loop


def made_up_weights(name: str, folder: Path) -> Path:
    """Draw weights at random, the same every time; they cost the same to compute with as learned ones."""
    path = folder / f"{name}.weights.h5"
    if not path.exists():
        keras = tensorflow().keras
        keras.utils.set_random_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        network = getattr(keras.applications, APPLICATIONS[name].constructor)
        network(include_top=False, weights=None).save_weights(str(path))
    return path


def matrix_product(side: int) -> tuple[str, Callable[[], object]]:
    """A product of two square matrices, as fast as this processor does it, and its kind: bfloat16 if it has
    instructions for that."""
    tf = tensorflow()
    kind = "bfloat16" if in_hardware() else "float32"
    factors = [tf.cast(tf.random.normal((side, side)), kind) for _ in range(2)]
    product = tf.function(tf.matmul)
    return kind, lambda: product(*factors).numpy()


def _application(name: str, weights: Path) -> tuple[Any, Callable[[Any], Any]]:
    keras, app = tensorflow().keras, APPLICATIONS[name]
    module, shape = getattr(keras.applications, app.module), (app.image_size, app.image_size, 3)
    whole = getattr(module, app.constructor)(include_top=False, weights=None, input_shape=shape)
    whole.load_weights(str(weights))
    features = keras.layers.GlobalAveragePooling2D()(whole.get_layer(app.layer).output)
    return keras.Model(whole.input, features), module.preprocess_input


def _lite2() -> tuple[Any, Callable[[Any], Any]]:
    keras = tensorflow().keras
    layers, network = keras.layers, EfficientNetLite("efficientnet_lite2")
    tensors = read_tensors(network._file)
    filled: list[tuple[Any, list[Any]]] = []

    def conv(x: Any, name: str, norm: str, stride: int = 1) -> Any:
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        how = {"strides": stride, "padding": "same", "use_bias": False}
        if "depthwise" in name:
            kernel = kernel.transpose(0, 1, 3, 2)
            layer = layers.DepthwiseConv2D(kernel.shape[0], **how)
        else:
            layer = layers.Conv2D(kernel.shape[3], kernel.shape[0], **how)
        normalised = layers.BatchNormalization(epsilon=1e-3)
        statistics = [tensors[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        filled.extend([(layer, [kernel]), (normalised, statistics)])
        return normalised(layer(x))

    relu6 = layers.ReLU(6.0)
    start = keras.Input((network.spec.image_size, network.spec.image_size, 3))
    x = relu6(conv(start, "_conv_stem", "_bn0", 2))
    strides = [stride if at == 0 else 1 for times, stride in _LITE2 for at in range(times)]
    for number, stride in enumerate(strides):
        block = f"_blocks.{number}"
        wide = f"{block}._expand_conv.weight" in tensors
        y = relu6(conv(x, f"{block}._expand_conv", f"{block}._bn0")) if wide else x
        y = relu6(conv(y, f"{block}._depthwise_conv", f"{block}._bn1", stride))
        y = conv(y, f"{block}._project_conv", f"{block}._bn2")
        x = layers.Add()([x, y]) if stride == 1 and x.shape[-1] == y.shape[-1] else y
    model = keras.Model(start, layers.GlobalAveragePooling2D()(relu6(conv(x, "_conv_head", "_bn1"))))
    for layer, values in filled:
        layer.set_weights(values)
    return model, lambda images: (images - 127.0) / 128.0
