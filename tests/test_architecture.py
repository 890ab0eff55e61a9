"""The arrows between rooms, who may import which library, and how large a room, a module and a function may be.

A room is a folder of a package; a module at the top of a package is a room of its own.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.project import ROOT

PACKAGES = ("indexer", "server", "shared")
# Room -> the rooms of its package that it imports from. Every room may import from the top of `shared`.
ARROWS = {
    "shared/storage": "",
    "shared/images": "storage",
    "shared/vectors": "storage",
    "shared/embedding": "images vectors",
    "shared/index": "storage vectors",
    "shared/snapshot": "embedding index storage vectors",
    "shared/live": "index snapshot storage vectors",
    "shared/search": "embedding images index snapshot vectors",
    "shared/depot": "snapshot storage",
    "server/telemetry": "config",
    "server/inference": "telemetry",
    "server/serving": "config inference telemetry",
    "server/fetching": "",
    "server/middleware": "problems telemetry",
    "server/api": "fetching inference middleware problems serving telemetry",
    "indexer/catalog": "",
    "indexer/ingest": "catalog progress",
    "indexer/metric": "",
    "indexer/quality": "catalog ingest metric progress",
    "indexer/release": "progress",
    "indexer/demo": "catalog progress quality",
}
# Library -> the only places that may import it.
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
    "flask": ("server/app.py", "server/api/", "server/telemetry/tracing.py"),
    "pandas": ("indexer/catalog/parsing.py",),
}
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BENCHES = sorted(path.relative_to(ROOT) for path in (ROOT / "bench").glob("*.py"))
EACH = pytest.mark.parametrize("path", [*MODULES, *BENCHES], ids=str)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(path: Path) -> Iterator[str]:
    """The modules that a module imports, also within functions; a package stands for its `__init__`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if file_of(inner) else node.module or ""


def file_of(module: str) -> Path | None:
    """The file of a module of ours, relative to the root."""
    path = Path(module.replace(".", "/"))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)


def room_of(path: Path) -> str:
    return "/".join(path.with_suffix("").parts[:2])


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_obey_the_arrows(path: Path) -> None:
    package, room = path.parts[0], room_of(path)
    for name in imports(path):
        library = name.partition(".")[0]
        assert path.as_posix().startswith(OWNERS.get(library, ("",))), f"{path} imports {name}"
        if library not in (*PACKAGES, "bench", "tests"):
            continue
        assert library in (package, "shared"), f"{path} imports {name}"
        file = file_of(name)
        assert file, f"{path} imports {name}, which is not there"
        other = room_of(file)
        if library == package and room in ARROWS and other != room and file.parent != Path("shared"):
            assert other.partition("/")[2] in ARROWS[room].split(), f"{path} imports {name}: {room} may not"


def test_the_table_of_arrows_names_every_room_and_has_no_circle() -> None:
    assert {room_of(path) for path in MODULES if len(path.parts) > 2} == ARROWS.keys()
    left = {
        room: {f"{room.partition('/')[0]}/{name}" for name in ARROWS[room].split()} & ARROWS.keys() for room in ARROWS
    }
    while free := [room for room, others in left.items() if not others & left.keys()]:
        left = {room: others for room, others in left.items() if room not in free}
    assert not left


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {path: {file for name in imports(path) if (file := file_of(name))} for path in MODULES}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(map(str, (*trail[trail.index(path) :], path)))
        if path not in done:
            for other in graph.get(path, ()):
                visit(other, (*trail, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


@EACH
def test_a_module_is_one_noun_of_readable_size(path: Path) -> None:
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 400
    assert path.stem not in ("utils", "helpers", "common")
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name} is too long"


def test_a_room_has_at_most_twelve_modules() -> None:
    folders = {path.parent for path in MODULES}
    assert not [folder for folder in folders if sum(p.parent == folder and p.stem != "__init__" for p in MODULES) > 12]


def test_tests_stand_in_the_rooms_of_what_they_test() -> None:
    rooms = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert rooms - {Path("."), Path("faults"), Path("fuzz")} <= {path.parent for path in MODULES}


def test_no_test_module_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        ours = [name for name in imports(path.relative_to(ROOT)) if name.startswith("tests.")]
        assert not [name for name in ours if not name.startswith("tests.support")], f"{path}: share it in tests/support"


def test_only_config_the_command_line_and_tensorflows_engine_read_the_environment() -> None:
    texts = {path: (ROOT / path).read_text() for path in MODULES}
    readers = {path.name for path, text in texts.items() if "os.environ" in text or "getenv" in text}
    assert readers <= {"command_line.py", "config.py", "tensorflow_engine.py"}
