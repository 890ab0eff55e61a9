"""The arrows between the packages, and who may import which library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = ("indexer", "server", "shared")
BENCHES = sorted((ROOT / "bench").glob("*.py"))
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# library -> the only places that may import it
OWNERS = {
    "boto3": ("shared/storage/s3_bucket.py",),
    "botocore": ("indexer/catalog/sources.py", "shared/storage/s3_bucket.py"),
    "aiohttp": ("indexer/ingest/download.py",),
    "tensorflow": ("shared/embedding/engines/tensorflow_engine.py",),
    "openvino": ("shared/embedding/",),
    "onnx": ("shared/embedding/families/clip.py",),
    "faiss": ("shared/index/faiss_store.py",),
    "pyarrow": ("indexer/release/export.py",),
    "opentelemetry": ("server/telemetry/tracing.py",),
    "flask": ("server/",),
    "pandas": ("indexer/catalog/parsing.py",),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_obey_the_arrows(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    room = place.partition("/")[0]
    for name in imports(path):
        library = name.partition(".")[0]
        if library in (*ROOMS, "bench"):
            assert library in (room, "shared"), f"{place} imports {name}"
        assert place.startswith(OWNERS.get(library, ("",))), f"{place} imports {name}"


@pytest.mark.parametrize("path", [*MODULES, *BENCHES], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_noun_of_readable_size(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "helpers", "common")


def test_only_config_and_tensorflows_engine_read_the_environment() -> None:
    readers = {path.name for path in MODULES if "os.environ" in path.read_text() or "getenv" in path.read_text()}
    assert readers <= {"config.py", "tensorflow_engine.py"}
