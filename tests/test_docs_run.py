"""Every example in the README and in docs/ runs: curl against a server over a small catalog, make against a small shop.

What cannot run here says why in `NOT_RUN`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.pictures import drawn, vectors
from tests.support.project import ROOT
from tests.support.server import free_port, serving, wait_for
from tests.support.snapshots import LEVELS, snapshot_of

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = ("make ", "curl ", "echo ", "docker ", "kubectl ", "systemctl ", "pip ", "python", ".venv/bin/python ")
# The beginning of a command -> why it does not run here.
NOT_RUN: Mapping[str, str] = {
    "make demo": "tests/test_end_to_end.py runs it",
    "make test": "these are the tests",
    "make bench": "tests/test_bench.py runs a small one",
    "make serve KEYS=": "tests/server/middleware/test_api_keys.py serves with a file of keys",
    "echo '127.0.0.1 similarity'": "tests/test_proxy.py writes the address into nginx.conf",
    "echo 'listen 8443 ssl": "tests/test_proxy.py serves with a certificate of its own",
    ".venv/bin/python -m server": "tests/test_ask.py and test_keys.py run them",
    """curl -X PUT -H "$KEY" --json '{"images": [{"image_id": "900001"}]""": "tests/test_live.py fetches by ids",
}
HERE = "http://127.0.0.1:8000"


def commands(page: Path) -> Iterator[str]:
    """The commands in a page's blocks of code, fenced or indented, without what they print."""
    text = re.sub(
        r"(?m)^```\w*\n(.*?)^```$", lambda block: re.sub("(?m)^", "    ", block[1]), page.read_text(), flags=re.S
    )
    for block in re.findall(r"(?m)^\n((?: {4}.*\n)+)", text):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        for line in (line.strip() for line in lines):
            command = line.removeprefix("$ ")
            if command.startswith(COMMANDS):
                yield re.sub(r"\s{2,}#.*$", "", command)


def places(begin: str) -> list[object]:
    """The pages' commands that begin so, and run."""
    return [
        pytest.param(command, id=f"{page.stem}: {command[:60]}")
        for page in PAGES
        for command in commands(page)
        if re.match(begin, command) and not command.startswith(tuple(NOT_RUN))
    ]


def test_every_command_in_the_docs_runs_here_or_says_why_not() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 30
    for command in found:
        runs = command.startswith(("make ", "curl ")) or "| curl " in command
        assert runs or command.startswith(tuple(NOT_RUN)), f"add to NOT_RUN why this does not run: {command}"
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in found), f"nothing begins with {beginning!r}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server over a small catalog that has what the examples ask for; and a folder with a photo."""
    folder = tmp_path_factory.mktemp("served")
    names = [
        "8300037",
        "8300038",
        "8300039",
        "8300040",
        "8300041",
        "8300074",
        "8300099",  # so that the examples about it do not depend on each other's order
        "8300111",
        *(f"83{n:05}" for n in range(200, 212)),
    ]
    rows = [
        {
            "name": "Stick, long" if n % 3 else f"Helmet {n}",
            "brand": ("CCM", "Bauer")[n % 2],
            "price": str(15 + n * 5),
            "in_stock": ("true", "false")[n % 4 == 3],
        }
        for n in range(20)
    ]
    quality = {"verdicts": {"photo": LEVELS, "product": LEVELS}}
    snapshot_of(folder, names, vectors(*range(20)), attributes=rows, quality=quality)
    for number, name in enumerate(("photo", "front", "back")):
        (folder / f"{name}.jpg").write_bytes(drawn(number))
    with serving(folder, SIMILARITY_ADMIN_KEY="secret") as url:
        yield url, folder


@pytest.mark.slow
@pytest.mark.parametrize("command", places(r"curl |.*\| curl "))
def test_every_curl_example_has_an_answer(served: tuple[str, Path], command: str) -> None:
    url, folder = served
    assert HERE in command or "$V1" in command
    careful = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }; set -o pipefail; '
    told = {**os.environ, "V1": f"{url}/v1/371/0341", "KEY": "Authorization: Bearer secret"}
    script = ["bash", "-c", careful + command.replace(HERE, url)]
    done = subprocess.run(script, cwd=folder, env=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer
    if "results" in answer:
        assert answer["results"]
    if "answers" in answer:
        assert len(answer["answers"]) == 3


class Shop:
    """A catalog of drawn pictures in a folder, and make as in a checkout of this project."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._year = folder, 0
        for name in ("Makefile", "setup.cfg", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "venv").mkdir()
        (folder / "venv" / "installed").touch()
        (folder / "venv" / "dev").touch()
        (folder / "images").mkdir()
        for number in range(24):
            (folder / "images" / f"{number}.jpg").write_bytes(drawn(number // 2, (128, 128 + number % 2)))
        lines = [f"p{number};{number};images/{2 * number}.jpg" for number in range(12)]
        (folder / "photos.csv").write_text("\n".join(["product_id_model;id;path", *lines]) + "\n")
        self.port = free_port()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")},
            "PYTHONPATH": str(ROOT),
            "SIMILARITY_CATALOG": str(folder / "catalog.csv"),
            "SIMILARITY_IMAGE_URL": f"file://{folder}/images/{{id}}.jpg",
            "SIMILARITY_MODEL": "colour_grid",
            "SIMILARITY_PORT": str(self.port),
        }
        (folder / "depot").mkdir()
        self.depot = (folder / "depot").as_uri()

    def renewed(self) -> None:
        """Another catalog than before."""
        self._year += 1
        rows = [f"p{number // 2};{number};{2020 + self._year}" for number in range(24)]
        (self._folder / "catalog.csv").write_text("\n".join(["product_id_model;id;year", *rows]) + "\n")

    def start(self, command: str) -> subprocess.Popen[str]:
        """Begin with a command of the docs."""
        local = command.replace("s3://bucket/prefix", self.depot).replace(
            "/var/lib/similarity", str(self._folder / "lib")
        )
        make = f"make RUN={sys.executable} VENV={self._folder / 'venv'} "
        return subprocess.Popen(
            ["bash", "-c", "exec " + local.replace("make ", make, 1)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Have it done."""
        process = self.start(command)
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, f"{command}\n{said}"
        return said


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop that has published twice, so that there is something to compare with and to go back to."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for _ in range(2):
        shop.renewed()
        shop.run("make index DPT=371 DOMAIN=0341")
        shop.run("make publish DPT=371 DOMAIN=0341 DEPOT=s3://bucket/prefix")
    return shop


@pytest.mark.slow
@pytest.mark.parametrize("command", places("make "))
def test_every_make_example_works(shop: Shop, command: str) -> None:
    if not command.startswith("make serve"):
        shop.renewed()
        if command.startswith(("make rollback", "make publish")):  # what was gone back from is not published again
            shop.run("make index DPT=371 DOMAIN=0341")
            shop.renewed()
        if command.startswith("make rollback"):
            shop.run("make publish DPT=371 DOMAIN=0341 DEPOT=s3://bucket/prefix")
        shop.run(command)
        return
    process = shop.start(command)
    try:
        wait_for(f"http://127.0.0.1:{shop.port}/readyz", process)  # type: ignore[arg-type]
        with urllib.request.urlopen(f"http://127.0.0.1:{shop.port}/v1/371/0341/products/p3/similar") as answer:
            assert len(json.load(answer)["results"]) == 10
    finally:
        process.terminate()
        process.communicate(timeout=60)
        time.sleep(0.2)
