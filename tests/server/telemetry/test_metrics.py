"""Metrics: once per request whichever way it went, over all processes, by rule and never by id."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.inference.photo_state import READY
from server.serving.snapshots import Snapshots
from shared.snapshot.reader import Snapshot
from tests.support.answers import Sample, ask, of, samples
from tests.support.pictures import drawn, vectors
from tests.support.processes import running, workers
from tests.support.project import ROOT
from tests.support.server import serving, until
from tests.support.snapshots import HOCKEY, snapshot_of

SIMILAR, SEARCH = "/v1/371/0341/products/p1/similar", "/v1/371/0341/search"
RULE = "/v1/<department>/<domain>/products/<id:product_id>/similar"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, [f"p{n}" for n in range(20)], vectors(*range(20)), quality={"estimate": 0.5})
    return tmp_path


@pytest.fixture
def client(data: Path) -> FlaskClient:
    return create_app(Snapshots(data), ServerConfig(data, depot="file:///x")).test_client()


def test_a_request_is_counted_once_by_its_rule_whichever_way_it_went(client: FlaskClient) -> None:
    def counted() -> dict[Sample, float]:
        return samples(client.get("/metrics").text)

    before = counted()
    for query in ("", "?k=5", "?diversity=0", "?k=0"):
        client.get(SIMILAR + query)
    for number in range(30):
        client.get(f"/v1/371/0341/products/nope{number}/similar")
        client.get(f"/nothing/{number}")
        client.open(SIMILAR, method=f"M{number}")
    after = counted()

    def more(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    assert more("similarity_request_seconds_count", method="GET", route=RULE, status="200") == 3
    assert more("similarity_request_seconds_count", method="GET", route=RULE, status="400") == 1
    assert more("similarity_request_seconds_count", method="GET", route=RULE, status="404") == 30
    assert more("similarity_request_seconds_count", method="", route="none") == 60
    assert more("similarity_refusals_total", kind="unknown-product") == 30
    assert more("similarity_refusals_total", kind="bad-question") == 1
    client.get("/v1/371/0341/products/another/similar", headers={"X-Request-ID": "x"})
    client.open("/another", method="OTHER")
    assert len(counted()) == len(after)  # whatever is asked, metrics do not grow
    assert "nope" not in client.get("/metrics").text


def test_stages_and_refusals_of_photos(client: FlaskClient) -> None:
    client.post(SEARCH, data=drawn(1))
    before = samples(client.get("/metrics").text)
    assert client.post(SEARCH, data=drawn(1)).status_code == 200
    client.post(SEARCH, data=b"hello")
    after = samples(client.get("/metrics").text)
    for stage, times in (("decode", 2), ("embed", 1), ("search", 1)):
        name = "similarity_stage_seconds_count"
        assert of(after, name, stage=stage) - of(before, name, stage=stage) == times, stage
    assert of(after, "similarity_refusals_total", kind="unsupported_format") >= 1


def test_what_the_snapshots_are(data: Path) -> None:
    snapshots = Snapshots(data)
    client = create_app(snapshots).test_client()
    snapshot = Snapshot.current(data, HOCKEY)
    (snapshot.folder.parent / "CURRENT").write_text("20200101T000000Z-0123456789abcdef\n")
    snapshots.refresh()
    until(lambda: snapshots.photo_state(snapshot) == READY)
    found = samples(client.get("/metrics").text)
    created = f"{found[('similarity_snapshot_created_timestamp_seconds', (('partition', '371/0341'),))]:.0f}"
    assert int(created) == int(np.datetime64(snapshot.manifest.created[:19], "s").astype(int))
    for name, value in {"products": 20, "images": 20, "quality": 0.5, "photo_search": 1, "refused": 1}.items():
        assert found[(f"similarity_snapshot_{name}", (("partition", "371/0341"),))] == value


def test_metrics_are_open_unless_keys_are_asked_for(data: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    assert create_app(Snapshots(data)).test_client().get("/metrics").status_code == 200
    closed = create_app(Snapshots(data), ServerConfig(data, keys=tmp_path / "keys.json"))
    assert closed.test_client().get("/metrics").status_code == 401


@pytest.mark.slow
def test_all_processes_of_a_server_are_summed_up_and_the_dead_keep_their_counts(data: Path) -> None:
    with serving(data, 2) as base:

        def counted() -> dict[Sample, float]:
            return samples(ask(base + "/metrics")[1].decode())

        for number in range(40):
            assert ask(base + (SIMILAR if number % 2 else SIMILAR + "?diversity=0"))[0] == 200
        for _ in range(3):
            assert ask(base + SEARCH, drawn(1))[0] == 200
        found = {of(counted(), "similarity_request_seconds_count", route=RULE, status="200") for _ in range(10)}
        assert found == {40}
        for stage in ("decode", "queue", "embed", "search"):
            assert of(counted(), "similarity_stage_seconds_count", stage=stage) == 3, stage
        assert of(counted(), "similarity_workers") == 2
        before = workers(base)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(running, before)))
        until(lambda: ask(base + "/readyz")[0] == 200 and of(counted(), "similarity_workers") == 2)
        assert of(counted(), "similarity_request_seconds_count", route=RULE, status="200") == 40
        assert of(counted(), "similarity_stage_seconds_count", stage="embed") == 3


def test_the_dashboard_asks_for_what_is_exposed(client: FlaskClient) -> None:
    client.get(SIMILAR)
    client.get(SIMILAR + "?k=0")
    client.post(SEARCH, data=drawn(1))
    text = client.get("/metrics").text
    exposed = set(re.findall("^# TYPE ([a-z_]+)", text, re.MULTILINE)) | {name for name, _ in samples(text)}
    labels = {label for _, has in samples(text) for label, _ in has} | {"job"}
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [variable["query"] for variable in dashboard["templating"]["list"]]
    names = {name for query in asked for name in re.findall(r"similarity_\w+", query)}
    assert names <= exposed
    groups = [group for query in asked for group in re.findall(r"by \(([^)]*)\)", query)]
    assert {label.strip() for group in groups for label in group.split(",")} <= labels
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"similarity_\w+", operations)) <= exposed
