"""The places of the project and of the shared material, and the thoroughness of the tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"

# `make test THOROUGH=1` tries what may fail at any moment as often as one must to trust it: a quarter of an hour more.
THOROUGH = bool(os.environ.get("THOROUGH"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test material is not on this machine")


def often(times: int, otherwise: int) -> int:
    """The number of tries: so many times when it is to be thorough."""
    return times if THOROUGH else otherwise
