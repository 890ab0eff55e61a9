"""`make demo`: index, serve and search a drawn shop or the user's own pictures as production does, then end.

Catalog, `make index`, gunicorn, both questions over HTTP, and a page of the answers.
"""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image
from rich.console import Console

from indexer.catalog.parsing import CatalogRow
from indexer.catalog.sources import Source
from indexer.demo.drawn_shop import draw_shop
from indexer.quality.simulated_photo import photographed
from shared.errors import RunStopped
from shared.images.decode import decode
from shared.images.gallery import Row, Section, Tile, page
from shared.partition import Partition
from shared.refusals import Refusal
from shared.storage.url_template import UrlTemplate

_ROOT = Path(__file__).resolve().parent.parent.parent
_ASKED, _SHOWN = 12, 6


@dataclass(frozen=True, slots=True)
class _Photo:
    """A user's photo, and the product that it shows."""

    path: Path
    product_id: str


@dataclass(frozen=True, slots=True)
class _Job:
    """The catalog to index and the queries to send. `folder` has the pictures; `products` are queries, each with a
    picture."""

    partition: Partition
    folder: Path
    catalog: Path
    image_path: str
    products: Mapping[str, Path]
    photos: Sequence[_Photo]


def demo(data: Path, dataset: Path | None, console: Console) -> None:
    """Run the demo below `data`. Raises `RunStopped` where a step fails."""
    data = data.resolve()
    job = _own_job(dataset, data / "demo" / "photos") if dataset else _shop_job(data / "sample", console)
    command = ["make", "--no-print-directory", "index", f"DPT={job.partition.department}"]
    command += [
        f"DOMAIN={job.partition.domain}",
        f"CATALOG={job.catalog}",
        # Files, and no server of them, so that the pictures are there when the demo has ended.
        f"IMAGE_URL={job.folder.resolve().as_uri()}/{job.image_path}",
    ]
    console.print(f"$ {' '.join(command)}", style="bold", soft_wrap=True)
    if subprocess.run([*command, f"DATA={data}"], cwd=_ROOT).returncode:
        raise RunStopped("The demo stops: make index failed, and says why above.")
    with _server(data, console) as base:
        sections = [_similar(base, job, console), _search(base, job, console)]
    result = data / "demo" / "index.html"
    result.parent.mkdir(parents=True, exist_ok=True)
    intro = f"Asked of {job.partition} over HTTP. A frame is green where a photo's own product is found."
    result.write_text(page("Which products look most alike?", intro, sections), encoding="utf-8")
    own_data = "" if data == Path("data").resolve() else f" DATA={data}"
    console.print(f"\nThe answers as a page of pictures: {result}", style="bold", soft_wrap=True)
    console.print(f"To ask yourself: make serve{own_data}, then open http://127.0.0.1:8000", soft_wrap=True)


def _shop_job(folder: Path, console: Console) -> _Job:
    if not (folder / "photos.csv").exists():  # written last
        console.print("Drawing a sports shop ..")
        draw_shop(folder)
    with (folder / "photos.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    every = max(1, len(rows) // _ASKED)
    photos = [_Photo(folder / row["path"], row["product_id_model"]) for row in rows[::every]]
    pictures = {row.product_id: folder / "images" / f"{row.image_id}.jpg" for row in _rows(folder / "catalog.csv.gz")}
    products = {photo.product_id: pictures[photo.product_id] for photo in photos}
    return _Job(Partition("371", "0341"), folder, folder / "catalog.csv.gz", "images/{id}.jpg", products, photos)


def _own_job(folder: Path, photos: Path) -> _Job:
    """The user's own folder; the photos are simulated from some of its pictures."""
    partition = Partition("own", "pictures")
    rows = _rows(folder)
    photos.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    products: dict[str, Path] = {}
    asked: list[_Photo] = []
    for row in rows[:: max(1, len(rows) // _ASKED)]:
        picture = decode((folder / row.image_id).read_bytes())
        if not isinstance(picture, Refusal):
            products[row.product_id] = folder / row.image_id
            asked.append(_Photo(photos / f"{len(asked)}.jpg", row.product_id))
            Image.fromarray(photographed(picture, rng)).save(asked[-1].path, quality=80)
    return _Job(partition, folder, folder, "{path}", products, asked)


def _rows(catalog: Path) -> Sequence[CatalogRow]:
    return Source(str(catalog), UrlTemplate("file:///{id}")).read().rows


@contextlib.contextmanager
def _server(data: Path, console: Console) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    console.print(f"$ make serve PORT={port}", style="bold")
    log = data / "demo" / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "server", "--data", str(data), "--port", str(port), "--workers", "1"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=file, stderr=file, start_new_session=True)
    try:
        _wait(f"{base}/readyz", process, log)
        yield base
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(0.2)
    raise RunStopped(f"The demo stops: the server did not become ready. Its log: {log}")


def _ask(url: str, photo: bytes | None = None) -> list[dict[str, Any]]:
    request = urllib.request.Request(url, photo, {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        results: list[dict[str, Any]] = json.load(answer)["results"]
        return results


def _similar(base: str, job: _Job, console: Console) -> Section:
    """Search by some products."""
    console.print("\nWhich products look most like this product?", style="bold")
    rows = []
    for product, picture in job.products.items():
        answers = _ask(f"{base}/v1/{job.partition}/products/{quote(product, safe='')}/similar?k={_SHOWN}")
        _print(console, f"product {product}", answers)
        rows.append(Row(Tile(picture.read_bytes(), f"product {product}"), [_tile(found) for found in answers]))
    return Section("Which products look most like this product?", rows)


def _search(base: str, job: _Job, console: Console) -> Section:
    """Search by photos whose product is known."""
    console.print("\nWhich products look most like this photo?", style="bold")
    rows, right = [], 0
    for photo in job.photos:
        answers = _ask(f"{base}/v1/{job.partition}/search?k={_SHOWN}", photo.path.read_bytes())
        _print(console, f"photo {photo.path.name} of {photo.product_id}", answers)
        right += answers[0]["product_id"] == photo.product_id
        asked = Tile(photo.path.read_bytes(), "a photo", f"of {photo.product_id}")
        rows.append(Row(asked, [_tile(found, right=photo.product_id) for found in answers]))
    console.print(f"{right} of {len(rows)} photos find their own product first.")
    return Section("Which products look most like this photo?", rows)


def _print(console: Console, asked: str, answers: Sequence[dict[str, Any]]) -> None:
    found = ", ".join(f"{answer['product_id']} ({answer['score']:.2f})" for answer in answers[:4])
    console.print(f"  {asked}: {found}", soft_wrap=True, markup=False, emoji=False)


def _tile(answer: dict[str, Any], right: str = "") -> Tile:
    with urllib.request.urlopen(answer["image_url"], timeout=10) as picture:
        data = picture.read()
    name = answer["attributes"].get("name") or answer["product_id"]
    mark = "right" if answer["product_id"] == right else ""
    return Tile(data, name, f"{answer['product_id']} · {answer['score']:.2f}", mark)
