"""Every question over HTTP, beyond `test_app`: parts of photos, several examples, batches, all partitions."""

import base64
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from server.api import search
from server.app import create_app
from server.serving.snapshots import Snapshots
from shared.partition import Partition
from shared.search import photo_query
from shared.snapshot.reader import Snapshot
from tests.support.answers import problem, results
from tests.support.pictures import drawn, encoded, vectors
from tests.support.snapshots import HOCKEY, LEVELS, snapshot_of

AT = "/v1/371/0341"
PHOTO = base64.b64encode(drawn(7)).decode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = [f"p{n}" for n in range(20)] + ["a/b,c"]
    rows = [{"brand": ("CCM", "Bauer")[n % 2], "price": str(n)} for n in range(21)]
    quality = {"verdicts": {"photo": LEVELS, "product": LEVELS}}
    snapshot_of(tmp_path, names, vectors(*range(21)), attributes=rows, quality=quality)
    return tmp_path


@pytest.fixture
def client(data: Path) -> FlaskClient:
    return create_app(Snapshots(data)).test_client()


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [result["product_id"] for result in found]


@pytest.mark.parametrize("way", ["get", "post"])
def test_whatever_is_wanted_can_be_wanted_of_both_questions(client: FlaskClient, way: str) -> None:
    def ask(query: str) -> list[dict[str, Any]]:
        if way == "get":
            answer = client.get(f"{AT}/products/p7/similar?{query}")
        else:
            answer = client.post(f"{AT}/search?{query}", data=drawn(7))
        fields: list[dict[str, Any]] = json.loads(answer.data)["results"]
        return fields

    everything = ask("k=100")
    assert [r["rank"] for r in ask("k=3&offset=2")] == [3, 4, 5]
    assert ids(ask("k=3&offset=2")) == ids(everything)[2:5]
    assert ids(ask("k=100&filter=brand:ccm")) == [
        r["product_id"] for r in everything if r["attributes"]["brand"] == "CCM"
    ]
    assert ids(ask("filter=price:3..5;brand:bauer")) == [i for i in ids(everything) if i in ("p3", "p5")]
    first, second = ids(everything)[:2]
    assert ids(ask(f"k=2&exclude={first}")) == ids(everything)[1:3]
    assert ids(ask(f"k=1&exclude={first},{second}&exclude=%22a/b,c%22,nope")) == [
        next(i for i in ids(everything)[2:] if i != "a/b,c")
    ]
    assert ids(ask(f"k=100&min_score={everything[4]['score']}")) == ids(everything)[:5]
    alike = [r["product_id"] for r in everything if r["verdict"] in ("same", "variant")]
    assert ids(ask("k=100&verdict=variant")) == alike


def test_an_explained_answer_is_the_answer_with_an_explanation(client: FlaskClient) -> None:
    plain = results(client.get(f"{AT}/products/p7/similar?k=3"))
    told = results(client.get(f"{AT}/products/p7/similar?k=3&explain=true"))
    assert [{k: v for k, v in result.items() if k != "explain"} for result in told] == plain
    for result in told:
        assert result["explain"] == {
            "image_id": result["image_id"], "view": "i7", "score": pytest.approx(result["score"], abs=2e-6),
            "views": [{"view": "i7", "score": pytest.approx(result["score"], abs=2e-6)}],
        }  # fmt: skip
    photo = results(client.post(f"{AT}/search?k=1&explain=true", data=drawn(7)))[0]
    assert (photo["explain"]["view"], photo["explain"]["image_id"]) == ("whole", "i7")
    assert "explain" not in results(client.post(f"{AT}/search?k=1&explain=false", data=drawn(7)))[0]
    assert problem(client.get(f"{AT}/products/p7/similar?explain=yes"), 400)["detail"].startswith("explain is 'yes'")


def test_a_crop_of_a_photo(client: FlaskClient) -> None:
    assert len(results(client.post(f"{AT}/search?crop=0.5,0,0.5,1", data=drawn(7)))) == 10
    assert "x,y,w,h" in problem(client.post(f"{AT}/search?crop=1,2", data=drawn(7)), 400)["detail"]
    outside = problem(client.post(f"{AT}/search?crop=0,0,65,64", data=drawn(7)), 400)
    assert outside["kind"] == "bad_crop"
    assert "64 x 64" in outside["detail"]


def test_several_examples(client: FlaskClient) -> None:
    like = [{"product_id": "p3"}, {"image_base64": PHOTO, "weight": 5, "crop": "0,0,1,1"}]
    body = {"like": like, "unlike": [{"product_id": "p4", "weight": 0.5}]}
    found = results(client.post(f"{AT}/similar?k=5&explain=true", json=body))
    assert found[0]["product_id"] == "p7"
    assert {"p3", "p4"}.isdisjoint(ids(found))
    assert found[0]["verdict"] is None
    assert [view["view"] for view in found[0]["explain"]["views"]] == ["p3", "photo 2"]
    assert found[0]["explain"]["view"] == "photo 2"
    assert set(ids(results(client.post(f"{AT}/similar?filter=brand:ccm", json=body)))) <= {
        f"p{n}" for n in range(0, 20, 2)
    } | {"a/b,c"}
    one = results(client.post(f"{AT}/similar?k=5", json={"like": [{"product_id": "p3"}]}))
    assert one == results(client.get(f"{AT}/products/p3/similar?k=5"))
    raw = client.post(f"{AT}/similar?k=5", data=json.dumps({"like": [{"product_id": "p3"}]}))  # as curl sends it
    assert results(raw) == one


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({}, 400, "like is"),
        ([], 400, "The body is []"),
        (None, 400, "The body is not JSON"),
        ({"like": []}, 400, "like is []"),
        ({"like": [{"product_id": "p1"}] * 21}, 400, "like is"),
        ({"like": [{"product_id": "p1"}] * 20, "unlike": [{"product_id": "p2"}]}, 400, "give 1 to 20"),
        ({"unlike": [{"product_id": "p1"}]}, 400, "like is"),
        ({"like": [{}]}, 400, "one of product_id, image_base64, image_url"),
        ({"like": [{"product_id": "p1", "image_base64": PHOTO}]}, 400, "one of product_id"),
        ({"like": [{"product_id": "p1", "crop": "0,0,1,1"}]}, 400, "crop is of a photo"),
        (
            {"like": [{"product_id": "p1", "weight": 0}]},
            400,
            "like.0.weight is 0; it must be a number from 0.01 to 100",
        ),
        ({"like": [{"product_id": "p1", "weight": True}]}, 400, "like.0.weight"),
        ({"like": [{"product_id": "p1", "weigth": 1}]}, 400, "like.0.weigth"),
        ({"like": [{"product_id": 1}]}, 400, "like.0.product_id"),
        ({"like": [{"product_id": "nope"}]}, 404, "'nope'"),
        ({"like": [{"image_base64": "!!"}]}, 400, "base64"),
        ({"like": [{"image_base64": base64.b64encode(b"text").decode()}]}, 415, "not those of"),
        ({"like": [{"image_url": "http://127.0.0.1/"}]}, 400, "not enabled"),
        ({"like": [{"image_base64": PHOTO, "crop": "1,1"}]}, 400, "crop is '1,1'"),
    ],
)
def test_wrong_examples_are_named(client: FlaskClient, body: Any, status: int, why: str) -> None:
    assert why in problem(client.post(f"{AT}/similar", json=body), status)["detail"]
    if isinstance(body, dict) and body.get("like") and body["like"] != [{"product_id": "p1"}] * 21:
        sent = {"questions": [body, {"product_id": "p1"}]}
        wrong, right = client.post(f"{AT}/batch", json=sent).get_json()["answers"]
        assert wrong["problem"]["status"] == status
        assert why in wrong["problem"]["detail"]
        assert len(right["results"]) == 10


@pytest.mark.parametrize("route", ["similar", "batch"])
def test_bodies_that_are_no_json(client: FlaskClient, route: str) -> None:
    for data in (
        b"",
        b"{",
        b"[" * 200_000,
        b"\xff\xfe{",
        b'{"like": [{"product_id": "p1", "weight": 1' + b"0" * 5000 + b"}]}",
    ):
        problem(client.post(f"{AT}/{route}", data=data, content_type="application/json"), 400)


def test_a_batch_has_an_answer_or_a_problem_for_each_question_in_order(client: FlaskClient, data: Path) -> None:
    questions: list[Any] = [
        {"product_id": "p3", "k": 2},
        {"product_id": "nope"},
        {"image_base64": PHOTO, "k": 1, "explain": True},
        {"like": [{"product_id": "p3"}, {"image_base64": PHOTO}], "unlike": [{"product_id": "p5"}], "k": 3},
        {"product_id": "p3", "k": 0},
        {"product_id": "p3", "filter": "price:3..9", "exclude": "p5,p7", "min_score": -1, "offset": 1},
        {"product_id": "p3", "filter": ["price:3..9", "brand:bauer"], "exclude": ["a/b,c", "p9"]},
        {"product_id": "p3", "verdict": "variant", "collapse": "variant", "diversity": 0.1},
        {"image_base64": PHOTO, "crop": "5"},
        {"product_id": "p3", "filter": "colour:red"},
        {"product_id": "p3", "kk": 3},
        "p3",
        {"product_id": "p7", "explain": True, "k": 1},
    ]
    answer = client.post(f"{AT}/batch", json={"questions": questions})
    assert answer.status_code == 200
    fields = answer.get_json()
    assert fields["snapshot"] == Snapshot.current(data, HOCKEY).id
    assert answer.headers["ETag"] == f'"{fields["snapshot"]}"'
    answers = fields["answers"]
    kinds = ["results" if "results" in one else one["problem"]["status"] for one in answers]
    assert kinds == [
        "results",
        404,
        "results",
        "results",
        400,
        "results",
        "results",
        "results",
        400,
        400,
        400,
        400,
        "results",
    ]
    assert answers[0]["results"] == results(client.get(f"{AT}/products/p3/similar?k=2"))
    alone = problem(client.get(f"{AT}/products/nope/similar"), 404)
    assert answers[1]["problem"] == alone | {"request_id": answers[1]["problem"]["request_id"]}
    assert answers[2]["results"] == results(client.post(f"{AT}/search?k=1&explain=true", data=drawn(7)))
    alone = client.post(f"{AT}/similar?k=3", json={key: questions[3][key] for key in ("like", "unlike")})
    assert answers[3]["results"] == results(alone)
    assert ids(answers[5]["results"]) == ids(
        json.loads(client.get(f"{AT}/products/p3/similar?filter=price:3..9&exclude=p5,p7&offset=1").data)["results"]
    )
    assert set(ids(answers[6]["results"])) == {"p5", "p7"}
    assert answers[12]["results"] == results(client.get(f"{AT}/products/p7/similar?k=1&explain=true"))


@pytest.mark.parametrize(
    "body", [{}, {"questions": []}, {"questions": [{"product_id": "p1"}] * 101}, {"questions": {}}, []]
)
def test_a_batch_is_1_to_100_questions(client: FlaskClient, body: Any) -> None:
    problem(client.post(f"{AT}/batch", json=body), 400)
    assert (
        len(client.post(f"{AT}/batch", json={"questions": [{"product_id": "p1"}] * 100}).get_json()["answers"]) == 100
    )


def test_a_fault_of_ours_costs_only_its_own_question(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "similar_to_query", lambda *_: 1 / 0)
    sent = {"questions": [{"image_base64": PHOTO}, {"product_id": "p1"}]}
    wrong, right = client.post(f"{AT}/batch", json=sent).get_json()["answers"]
    assert wrong["problem"]["status"] == 500
    assert "division" not in wrong["problem"]["detail"]
    assert right["results"]


def test_a_batch_is_answered_from_one_snapshot_while_another_takes_over(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(data)
    client = create_app(snapshots).test_client()
    before = snapshots.get("371/0341").id
    newer, get = vectors(3, 99), snapshots.get

    def swapping(partition: str) -> Snapshot:
        snapshot = get(partition)
        snapshot_of(data, ["p3", "new"], newer)
        snapshots.refresh()
        return snapshot

    monkeypatch.setattr(snapshots, "get", swapping)
    sent = {"questions": [{"image_base64": PHOTO, "k": 1}, {"product_id": "p3"}, {"product_id": "p19"}]}
    fields = client.post(f"{AT}/batch", json=sent).get_json()
    assert fields["snapshot"] == before != get("371/0341").id
    assert [len(one["results"]) for one in fields["answers"]] == [1, 10, 10]


def test_the_photos_of_batches_leave_turns_for_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(Snapshots(data)).test_client()
    client.post(f"{AT}/search", data=drawn(7))
    at_once, most, lock = 0, 0, threading.Lock()

    def slowly(*_: object) -> np.ndarray:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        return np.ones((1, 49), np.float32)

    monkeypatch.setattr(photo_query, "embed_views", slowly)
    sent = {"questions": [{"image_base64": PHOTO}] * 20}
    threads = [
        threading.Thread(target=client.application.test_client().post, args=(f"{AT}/batch",), kwargs={"json": sent})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert client.post(f"{AT}/search", data=drawn(7)).status_code == 200
    for thread in threads:
        thread.join()
    assert 2 <= most <= 5  # four of batches, and the one alone


def test_several_things_of_a_photo_are_answered_each_with_its_part(client: FlaskClient) -> None:
    photo = Image.new("RGB", (320, 320), "grey")
    for seed, place in ((3, (0, 0)), (7, (160, 160))):
        photo.paste(Image.open(io.BytesIO(drawn(seed, (160, 160), "PNG"))), place)
    data = encoded(photo, "PNG")
    answer = client.post(f"{AT}/search?objects=2&k=3&explain=true", data=data).get_json()
    assert {one["results"][0]["product_id"] for one in answer["objects"]} == {"p3", "p7"}
    assert answer["results"] == answer["objects"][0]["results"]
    assert answer["crop"] == answer["objects"][0]["crop"]
    for one in answer["objects"]:
        crop = ",".join(map(str, one["crop"]))
        assert one["results"][0]["explain"]["view"] == f"window {crop}"
        alone = client.post(f"{AT}/search?k=3&crop={crop}", data=data).get_json()
        assert ids(alone["results"]) == ids(one["results"])
        assert "crop" not in alone
    plain = client.post(f"{AT}/search", data=data).get_json()
    assert not {"crop", "objects"} & plain.keys()


@pytest.mark.parametrize("objects", ["0", "6", "two", ""])
def test_how_many_things_there_may_be_is_said(client: FlaskClient, objects: str) -> None:
    answer = client.post(f"{AT}/search?objects={objects}", data=drawn(7))
    assert "a whole number from 1 to 5" in problem(answer, 400)["detail"]


def test_one_product_asked_of_all_partitions(client: FlaskClient, data: Path) -> None:
    snapshot_of(data, ["p7", "x/y", "p8"], vectors(7, 107, 8), Partition("7", "0002"))
    snapshot_of(data, ["z"], vectors(7), Partition("8", "0003"))
    client = create_app(Snapshots(data)).test_client()
    answer = client.get("/v1/products/p7/similar?k=30&explain=true")
    assert answer.status_code == 200
    fields = answer.get_json()
    assert set(fields["snapshots"]) == {"371/0341", "7/0002", "8/0003"}
    found = fields["results"]
    assert (found[0]["product_id"], found[0]["partition"], found[0]["score"]) == ("z", "8/0003", pytest.approx(1))
    assert len(ids(found)) == len(set(ids(found))) == 22
    assert "p7" not in ids(found)
    assert {result["partition"] for result in found} == set(fields["snapshots"])
    assert all(result["explain"]["views"] for result in found)
    assert ids(client.get("/v1/products/p7/similar?k=3&offset=2").get_json()["results"]) == ids(found)[2:5]
    assert "Indexes here: 371/0341" in problem(client.get("/v1/products/nope/similar"), 404)["detail"]
    assert client.get("/v1/products/x/y/similar").get_json()["results"]
    problem(client.get("/v1/products/p7/similar?k=0"), 400)
