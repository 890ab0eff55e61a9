"""Convert networks for OpenVINO, and compare those that TensorFlow defines on probes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from shared.embedding.embedder import EmbedderSpec
from shared.embedding.engines import bfloat16
from shared.embedding.engines.openvino_engine import core, run, save
from shared.embedding.engines.tensorflow_engine import frozen, session, tensorflow
from shared.embedding.family import Family
from shared.errors import ModelError

WRONG, NOT_CONVERTIBLE = 3, 4  # exit statuses of `python -m shared.embedding`


class NotConvertible(ModelError):
    """An error: OpenVINO cannot run this network; TensorFlow can."""


def convert_apart(family: Family, folder: Path) -> None:
    """Convert in a process of its own, so that it takes no memory afterwards. Raises as `Family.convert` does."""
    weights = map(str, family.weights if family.source == family.name else ())
    command = [sys.executable, "-m", "shared.embedding", family.source, str(folder), *weights]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode in (WRONG, NOT_CONVERTIBLE):
        raise (ModelError if done.returncode == WRONG else NotConvertible)(json.loads(done.stdout))
    if done.returncode:
        raise NotConvertible(f"Converting the network {family.name} failed with status {done.returncode}.")


def convert(family: Family, folder: Path) -> None:
    """Do `Family.convert` for the networks that TensorFlow defines.

    Raises `ModelError` where the weights are wrong, `NotConvertible` where OpenVINO cannot run the network or gives
    other vectors.
    """
    definition = family.define()
    graph, probes = frozen(definition), bfloat16.probes(definition.size)
    embed = session(graph)
    exact = np.concatenate([embed(image[None]) for image in probes])  # one by one takes a third of the memory
    bfloat16.round_filters(graph.definition, tensorflow())
    path = folder / "frozen.pb"
    path.write_bytes(graph.definition.SerializeToString())
    spec = family.spec or EmbedderSpec(family.name, exact.shape[1], definition.size, family.fingerprint)
    try:
        for small in (True, False):
            written = save(core().read_model(path), spec, folder, small=small)
            if bfloat16.agree(exact, run(core().read_model(written), probes)):
                return
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-200:]
        raise NotConvertible(f"OpenVINO cannot run {family.name}: {reason} Use ENGINE=tensorflow.") from error
    finally:
        path.unlink()
    raise NotConvertible(f"OpenVINO gives other vectors for {family.name} than TensorFlow. Use ENGINE=tensorflow.")
