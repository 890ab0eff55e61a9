"""A process that opens a converted network and embeds a picture: `python -m bench.opening network.xml`.

It writes the vector to standard output as JSON, and stays until its standard input ends, so that others can look at it.
"""

import json
import sys
from pathlib import Path

import numpy as np

from shared.embedding.engines.openvino_engine import ConvertedNetwork
from shared.embedding.engines.runtime import Runtime
from shared.images.decode import Picture


def example(size: int) -> Picture:
    """A picture that costs nothing to make."""
    return np.resize(np.arange(256, dtype=np.uint8), (1, size, size, 3))


def main(path: str) -> None:
    """Open, embed, and wait."""
    network = ConvertedNetwork(Path(path), Runtime())
    print(json.dumps(network.embed(example(network.spec.image_size))[0].tolist()), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
