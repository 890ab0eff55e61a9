"""Convert a network for OpenVINO: `python -m shared.embedding <model> <folder> [<weights file> ..]`."""

import json
import os
import sys
from pathlib import Path

from shared.embedding.engines.conversion import NOT_CONVERTIBLE, WRONG, NotConvertible
from shared.embedding.registry import family
from shared.errors import ModelError


def main(model: str, folder: str, *weights: str) -> int:
    """Convert, and print as JSON on standard output why that failed. Returns the exit status."""
    # TensorFlow and Keras print where they please; only this is meant for who asked.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        family(model, [Path(path) for path in weights]).convert(Path(folder))
    except ModelError as error:
        json.dump(str(error), answer)
        answer.flush()
        return NOT_CONVERTIBLE if isinstance(error, NotConvertible) else WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
