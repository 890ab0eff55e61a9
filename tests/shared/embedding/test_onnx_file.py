"""Networks of the user's own as ONNX: what is read, how pictures are prepared, and what is refused with a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shared.embedding.engines.runtime import Engine, Runtime
from shared.embedding.registry import load
from shared.errors import ModelError
from shared.vectors.unit import normalise

pytestmark = pytest.mark.slow
SIDE, WIDTH, PATCH = 32, 12, 8
CONFIG = {
    "size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "resample": 3,
}


def weights(**shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(5)
    arrays = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def saved(path: Path, nodes: list[Any], constants: list[Any], outputs: dict[str, int], side: Any = SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, side, side])]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()]
    graph = helper.make_graph(nodes, "network", taken, given, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def small_resnet(path: Path, outputs: tuple[str, ...] = ("last_hidden_state", "pooler_output")) -> Path:
    """A convolution, a residual block, and the mean over positions."""
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["pixel_values", "stem"], ["a"], strides=[2, 2], **same),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "block"], ["c"], **same),
        helper.make_node("Add", ["b", "c"], ["last_hidden_state"]),
        helper.make_node("GlobalAveragePool", ["last_hidden_state"], ["pooler_output"]),
    ]
    constants = weights(stem=(WIDTH, 3, 3, 3), block=(WIDTH, WIDTH, 3, 3))
    return saved(path, nodes, constants, dict.fromkeys(outputs, 4))


def small_vit(path: Path, *, class_token: bool = True, side: Any = SIDE) -> Path:
    """Patches, a class token, one layer of attention."""
    nodes = [
        helper.make_node("Conv", ["pixel_values", "patch"], ["a"], kernel_shape=[PATCH] * 2, strides=[PATCH] * 2),
        helper.make_node("Reshape", ["a", "flat"], ["b"]),
        helper.make_node("Transpose", ["b"], ["tokens"], perm=[0, 2, 1]),
    ]
    if class_token:
        nodes += [
            helper.make_node("Slice", ["tokens", "zero", "one", "axis"], ["first"]),
            helper.make_node("Mul", ["first", "nought"], ["none"]),
            helper.make_node("Add", ["none", "class"], ["begin"]),
            helper.make_node("Concat", ["begin", "tokens"], ["x"], axis=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["tokens"], ["x"]))
    nodes += [
        helper.make_node("MatMul", ["x", "query"], ["q"]),
        helper.make_node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["s"]),
        helper.make_node("Softmax", ["s"], ["w"], axis=-1),
        helper.make_node("MatMul", ["w", "x"], ["v"]),
        helper.make_node("Add", ["x", "v"], ["last_hidden_state"]),
    ]
    whole = {"flat": [0, WIDTH, -1], "zero": [0], "one": [1], "axis": [1]}
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in whole.items()]
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "nought"))
    constants += weights(patch=(WIDTH, 3, PATCH, PATCH), query=(WIDTH, WIDTH), **{"class": (1, 1, WIDTH)})
    return saved(path, nodes, constants, {"last_hidden_state": 3}, side)


def exported(folder: Path, **changes: Any) -> Path:
    """The preparation of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def pictures(side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)


def reference(path: Path, images: np.ndarray, output: str) -> np.ndarray:
    """The file's output by its definition, operator by operator."""
    mean, deviation = (np.array(CONFIG[name], np.float32) for name in ("image_mean", "image_std"))
    taken = ((images / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    model = ReferenceEvaluator(str(path))
    return np.asarray(dict(zip(model.output_names, model.run(None, {"pixel_values": taken}), strict=True))[output])


def agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(((normalise(ours) * normalise(theirs)).sum(axis=1) > 0.9999).all())


def test_a_resnet_gives_its_pooled_output(tmp_path: Path) -> None:
    path = small_resnet(exported(tmp_path / "net") / "model.onnx")
    network, images = load(str(tmp_path / "net")), pictures()
    assert (network.spec.name, network.spec.dimension, network.spec.image_size) == ("net", WIDTH, SIDE)
    assert agree(network.embed(images), reference(path, images, "pooler_output")[:, :, 0, 0])
    file = load(str(path))
    assert file.spec.fingerprint == network.spec.fingerprint


def test_of_a_feature_map_the_mean_is_taken(tmp_path: Path) -> None:
    path = small_resnet(exported(tmp_path) / "model.onnx", ("last_hidden_state",))
    images = pictures()
    assert agree(load(str(path)).embed(images), reference(path, images, "last_hidden_state").mean(axis=(2, 3)))


def test_a_vit_gives_its_class_token(tmp_path: Path) -> None:
    path = small_vit(exported(tmp_path) / "onnx" / "vision_model.onnx")
    images = pictures()
    assert agree(load(str(tmp_path)).embed(images), reference(path, images, "last_hidden_state")[:, 0])
    assert agree(load(str(path)).embed(images), reference(path, images, "last_hidden_state")[:, 0])


def test_a_vit_without_one_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    path = small_vit(exported(tmp_path) / "model.onnx", class_token=False)
    images = pictures()
    assert agree(load(str(path)).embed(images), reference(path, images, "last_hidden_state").mean(axis=1))


def test_a_crop_takes_the_middle_of_a_larger_square(tmp_path: Path) -> None:
    how = {"size": {"shortest_edge": 40}, "crop_size": SIDE, "do_center_crop": True}
    path = small_resnet(exported(tmp_path, **how) / "model.onnx")
    network, images = load(str(path)), pictures(40)
    assert network.spec.image_size == 40
    assert agree(network.embed(images), reference(path, images[:, 4:36, 4:36], "pooler_output")[:, :, 0, 0])


def test_the_fingerprint_follows_the_preparation(tmp_path: Path) -> None:
    path = small_resnet(exported(tmp_path) / "model.onnx")
    before = load(str(path)).spec.fingerprint
    exported(tmp_path, rescale_factor=1 / 127)
    assert load(str(path)).spec.fingerprint != before


def two_inputs(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77]))
    model.graph.node.append(helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT))
    model.graph.output.append(helper.make_tensor_value_info("ids", TensorProto.FLOAT, ["n", 77]))
    onnx.save(model, path)


def text_model(path: Path) -> None:
    taken = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77])]
    given = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", 77])]
    node = helper.make_node("Cast", ["input_ids"], ["last_hidden_state"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "text", taken, given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: (path.parent / "preprocessor_config.json").unlink(), "preprocessor_config.json cannot be read"),
        (lambda path: exported(path.parent, size={"height": 32, "width": 48}), "not one of a square"),
        (lambda path: exported(path.parent, size="large"), "does not say"),
        (lambda path: exported(path.parent, image_std=[0, 0, 0]), "does not say"),
        (lambda path: exported(path.parent, size=48), r"prepares \(n, 3, 48, 48\)"),
        (lambda path: small_vit(path, side=SIDE * 2), "takes pictures of"),
        (lambda path: path.write_bytes(b"not a model"), "cannot be read as ONNX"),
        (lambda path: small_resnet(path, ("b",)), "one must be image_embeds"),
        (two_inputs, "takes 2 inputs"),
        (text_model, "which is no picture"),
    ],
)
def test_a_wrong_one_is_refused_with_a_sentence(spoil: Any, named: str, tmp_path: Path) -> None:
    path = small_resnet(exported(tmp_path / "net") / "model.onnx")
    spoil(path)
    with pytest.raises(ModelError, match=named):
        load(str(path), runtime=Runtime(tmp_path / "networks")).embed(pictures())


def test_a_folder_without_a_model_and_the_wrong_engine_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Export the network as ONNX"):
        load(str(exported(tmp_path)))
    network = load(str(small_resnet(tmp_path / "model.onnx")), runtime=Runtime(engine=Engine.TENSORFLOW))
    with pytest.raises(ModelError, match="Leave out ENGINE"):
        network.embed(pictures())
