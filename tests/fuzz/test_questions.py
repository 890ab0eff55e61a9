"""Filters and crops, and the bodies of requests: read, or refused with a sentence, and never an error of ours."""

import base64
import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from server.app import create_app
from server.config import ServerConfig
from server.serving.snapshots import Snapshots
from shared.errors import BadQuestion
from shared.images.crop import Crop
from shared.index.filters import Condition, Filter, Range, folded, number, parse
from shared.refusals import Refusal
from tests.support.fuzzing import damaged, fuzz, is_refused, is_sentence
from tests.support.pictures import drawn, vectors
from tests.support.snapshots import snapshot_of

TEXTS = st.sampled_from(
    ["brand", "a b", "20..80", '"', '""', ",", ";", ":", "..", "ß", "1e5", "-1", " x ", ""]
) | st.text(max_size=5)
RANGES = st.tuples(st.integers(-99, 99), st.integers(0, 99)).map(lambda ends: Range(ends[0], ends[0] + ends[1]))


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def written(wanted: Filter) -> str:
    """A filter as a request gives it."""
    texts = (
        f"{quoted(each.column)}:"
        + ",".join(f"{v.low}..{v.high}" if isinstance(v, Range) else quoted(v) for v in each.values)
        for each in wanted.conditions
    )
    return ";".join(texts)


CONDITIONS = st.builds(
    Condition, TEXTS.filter(bool), st.lists(RANGES | TEXTS.map(folded), min_size=1, max_size=3).map(tuple)
)
FILTERS = st.lists(CONDITIONS, min_size=1, max_size=2).map(lambda conditions: Filter(tuple(conditions)))


def test_a_filter_is_read_as_it_was_written() -> None:
    fuzz(FILTERS, lambda wanted: parse(written(wanted)) == wanted or pytest.fail(written(wanted)), 100)


def test_a_filter_is_read_or_refused() -> None:
    sent = damaged(FILTERS.map(lambda wanted: written(wanted).encode()), [b'"', b";", b":", b",", b"..", b"1e999"])

    def holds(data: bytes) -> None:
        is_refused(lambda: parse(data.decode(errors="replace")), BadQuestion)
        is_refused(lambda: parse(data.decode(errors="replace") * 1000), BadQuestion)

    fuzz(sent, holds, 100)


def test_a_crop_is_refused_or_within_the_picture() -> None:
    numbers = st.sampled_from(["0", "1", "0.5", ".5", "1.", "999999", "1e9", "-1", "nan", "٣"]) | st.floats(0, 2).map(
        str
    )
    texts = st.lists(numbers, min_size=3, max_size=5).map(",".join)

    def holds(sent: tuple[str, int, int]) -> None:
        text, width, height = sent
        crops = list[Crop]()
        is_refused(lambda: crops.append(Crop.parse(text)), BadQuestion)
        for crop in crops:
            assert number(text.partition(",")[0]) == crop.x
            box = crop.box(width, height)
            if isinstance(box, Refusal):
                assert is_sentence(box.detail)
            else:
                assert 0 <= box[0] < box[2] <= width
                assert 0 <= box[1] < box[3] <= height

    sizes = st.integers(1, 5000)
    fuzz(st.tuples(texts, sizes, sizes), holds, 100)


def test_a_crop_that_an_answer_gives_can_be_asked_for() -> None:
    parts = st.integers(0, 999_999) | st.floats(0.001, 1)

    def holds(sent: tuple[float, float, float, float]) -> None:
        crop = Crop(*sent)
        again = Crop.parse(str(crop))
        assert (again.x, again.y, again.width, again.height) == pytest.approx(sent, rel=1e-3, abs=1e-4)

    fuzz(st.tuples(parts, parts, parts.filter(bool), parts.filter(bool)), holds, 100)


LEAVES: SearchStrategy[object] = (
    st.sampled_from(["p1", "\ud800", "0,0,1,1", "1e999", 10**400, "a" * 2000, "http://[", "http://127.0.0.1/"])
    | (st.none() | st.booleans() | st.integers() | st.floats())
    | TEXTS
)
ODD = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(TEXTS, LEAVES | st.lists(LEAVES), max_size=3)
PHOTO = base64.b64encode(drawn(1)).decode()
FIELDS = {
    "product_id": st.sampled_from(["p0", "p1", "none"]),
    "image_base64": st.sampled_from([PHOTO, f"data:,{PHOTO}", PHOTO[:99], "="]),
    "image_url": st.just("http://a/b"),
    "k": st.integers(0, 1001),
    "offset": st.integers(-1, 1001),
    "filter": FILTERS.map(written),
    "exclude": TEXTS,
    "crop": st.just("0,0,1,1"),
    "verdict": st.just("same"),
    "explain": st.booleans(),
    "diversity": st.floats(0, 1),
    "weight": st.floats(0.01, 100),
    "images": st.lists(st.fixed_dictionaries({"image_id": TEXTS, "image_base64": st.just(PHOTO)})),
    "attributes": st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=3),
    "unavailable": st.lists(st.just("p1")),
    "available": st.lists(TEXTS, max_size=2),
    "pinned": st.lists(TEXTS, max_size=2),
    "blocked": st.lists(TEXTS, max_size=2),
}
ROUTES = {
    "search": ("POST", ["image_base64", "image_url"]),
    "similar?k=3": ("POST", ["like", "unlike"]),
    "batch": ("POST", ["questions"]),
    "products/new": ("PUT", ["images", "attributes"]),
    "availability": ("PATCH", ["unavailable", "available"]),
    "products/p1/pins": ("PUT", ["pinned", "blocked"]),
}


@st.composite
def objects(draw: DrawFn, names: list[str], most: int = 3) -> dict[str, object]:
    """An object with such fields, most with a value that fits, and now and then another one."""
    found = {name: draw(FIELDS.get(name, st.nothing()) | ODD if name in FIELDS else lists()) for name in names}
    return found | draw(st.dictionaries(st.sampled_from([*FIELDS, "other"]), ODD, max_size=1))


def lists() -> SearchStrategy[object]:
    """Examples, or the questions of a batch."""
    names = st.lists(st.sampled_from([*FIELDS]), min_size=1, max_size=3, unique=True)
    return st.lists(names.flatmap(objects), min_size=1, max_size=3) | ODD


@st.composite
def bodies(draw: DrawFn) -> tuple[str, bytes]:
    """A route and a body for it."""
    route = draw(st.sampled_from([*ROUTES]))
    body = objects(ROUTES[route][1]).map(lambda fields: json.dumps(fields).encode())
    return route, draw(
        damaged(body, [b'"', b"{", b"[" * 5000, b"NaN", b"1e999", b"9" * 5000, b"\\ud800", b"\xff"], most=2)
    )


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    attributes = [{"brand": brand, "price": str(n)} for n, brand in enumerate(("CCM", "Bauer", "Ünique"))]
    snapshot_of(tmp_path, ["p0", "p1", "p2"], vectors(0, 1, 2), attributes=attributes)
    return create_app(Snapshots(tmp_path), ServerConfig(tmp_path, admin_key="open sesame")).test_client()


def test_a_body_is_answered_or_refused(client: FlaskClient) -> None:
    headers = {"Authorization": "Bearer open sesame", "Content-Type": "application/json"}

    def holds(sent: tuple[str, bytes]) -> None:
        route, body = sent
        answer = client.open(f"/v1/371/0341/{route}", method=ROUTES[route][0], data=body, headers=headers)
        fields = json.loads(answer.data, parse_constant=pytest.fail)
        assert answer.status_code in (200, 400, 404, 413, 415, 422), (route, answer.data)
        problems = (
            [fields] if answer.status_code != 200 else [each.get("problem") for each in fields.get("answers", [])]
        )
        for problem in filter(None, problems):
            assert problem["status"] < 500, (route, problem)
            assert is_sentence(problem["detail"]), problem

    fuzz(bodies(), holds, 150)
