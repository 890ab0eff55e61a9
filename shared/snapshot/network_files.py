"""The network files that travel with a snapshot, so that a host which serves it needs no TensorFlow.

network.0.xml, network.0.bin    as OpenVINO runs it; of a pair network.1.* too
weights.0.<name>                the weights that the user gave, where TensorFlow embedded the catalog
"""

from collections.abc import Sequence
from pathlib import Path

from shared.embedding.embedder import Embedder
from shared.embedding.engines.openvino_engine import ConvertedNetwork
from shared.embedding.engines.runtime import Runtime
from shared.embedding.pair import Fused
from shared.embedding.registry import CARRIED, SAVED, load
from shared.errors import ModelError, SnapshotError
from shared.snapshot.manifest import Manifest


def network_files(paths: Sequence[Path]) -> dict[str, Path]:
    """The files that travel, by their names in the snapshot. Both files of a converted network keep one stem."""
    converted = [path for path in paths if path.suffix == ".xml"]
    if not converted:
        return {f"weights.{number}.{path.name}": path for number, path in enumerate(paths)}
    return {f"network.{converted.index(path.with_suffix('.xml'))}{path.suffix}": path for path in paths}


def carried_embedder(folder: Path, manifest: Manifest, runtime: Runtime, *, signed: bool) -> Embedder:
    """The network that made a snapshot's vectors, from its own files if it carries them. `signed`: its signature was
    checked.

    Raises `ModelError` where it cannot be had, `SnapshotError` where the network at hand has other weights or prepares
    images differently.
    """
    paths = [folder / name for name in manifest.embedder.files]
    converted = [path for path in paths if path.suffix == ".xml"]
    if converted and runtime.uses_openvino:
        parts = [ConvertedNetwork(path, runtime) for path in converted]
        embedder: Embedder = parts[0] if len(parts) == 1 else Fused(*parts)
    else:
        name = manifest.embedder.name
        if unknown := set(name.split("+")) - CARRIED:  # it could be any path of this host
            raise ModelError(
                f"The snapshot {folder.name} needs the network {min(unknown)[:80]!r}, which is none of this "
                "program. Leave out ENGINE=tensorflow, or index again with MODEL= of those in the README."
            )
        if SAVED in name.split("+") and not signed:
            raise ModelError(
                f"The snapshot {folder.name} carries a saved Keras model, which can hold code, and nothing "
                "says who made it. Set SIGNING_KEY where it is indexed and here, or leave out "
                "ENGINE=tensorflow."
            )
        embedder = load(name, [] if converted else paths, runtime)
    if embedder.spec != manifest.spec:
        raise SnapshotError(
            f"The snapshot {folder.name} was made with {manifest.spec}, but this host has {embedder.spec}. "
            "Install the same versions, or index again."
        )
    return embedder
