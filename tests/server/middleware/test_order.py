"""All middleware in front of Flask together: the fast path behind keys, rates and CORS, and what each answer tells."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.middleware.fast_path import RULE
from server.serving.snapshots import Snapshots
from tests.support.answers import of, problem, samples
from tests.support.api_keys import bearing, command
from tests.support.snapshots import snapshot_of, unit

SIMILAR, SHOP = "/v1/371/0341/products/p1/similar", "https://shop.example"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    snapshot_of(tmp_path, ["p1", "p2"], unit([1.0, 0], [0, 1.0]))
    return tmp_path


@pytest.fixture
def key(data: Path) -> str:
    return command(data / "keys.json", "add", "shop", "--role", "admin")


@pytest.fixture
def client(data: Path, key: str) -> FlaskClient:
    options = ServerConfig(data, keys=data / "keys.json", rate="3", cors_origins=SHOP)
    return create_app(Snapshots(data), options).test_client()


def test_keys_rates_and_cors_leave_the_fast_path_on(
    client: FlaskClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.application, "full_dispatch_request", lambda *_: 1 / 0)
    headers = {"Authorization": f"Bearer {key}", "Origin": SHOP}
    problem(client.get(SIMILAR, headers={"Origin": SHOP}), 401)
    first = client.get(SIMILAR, headers=headers)
    assert (first.status_code, first.headers["RateLimit-Remaining"]) == (200, "2")
    again = client.get(SIMILAR, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["RateLimit-Remaining"]) == (304, b"", "1")
    client.get(SIMILAR, headers=headers)
    late = client.get(SIMILAR, headers={**headers, "X-Request-ID": "mine"})
    assert problem(late, 429)["request_id"] == "mine"
    for answer in (first, again, late):
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_slashes_in_front_go_round_no_key_and_no_rate(client: FlaskClient, key: str) -> None:
    for path in ("//x" + SIMILAR, "/" + SIMILAR, "//" + SIMILAR):
        answer = client.open(environ_overrides={"PATH_INFO": path, "REQUEST_METHOD": "GET"})
        assert answer.status_code == (404 if "x" in path.split("v1")[0] else 401), path
    found = [
        client.open(
            environ_overrides={
                "PATH_INFO": "/" + SIMILAR,
                "REQUEST_METHOD": "GET",
                "HTTP_AUTHORIZATION": f"Bearer {key}",
            }
        ).status_code
        for _ in range(4)
    ]
    assert found == [200] * 3 + [429]


def test_what_is_refused_in_front_is_counted_by_its_rule(client: FlaskClient, key: str) -> None:
    def counted(rule: str, status: str) -> float:
        found = samples(client.get("/metrics", **bearing(key)).text)
        return of(found, "similarity_request_seconds_count", route=rule, status=status)

    asked = [
        ("GET", SIMILAR, RULE),
        ("GET", "/v1/products/p1/similar", "/v1/products/<id:product_id>/similar"),
        ("GET", "/v1/products/x/products/y/similar", "/v1/products/<id:product_id>/similar"),
        ("POST", "/v1/371/0341/search", "/v1/<department>/<domain>/search"),
        ("POST", "/admin/reload", "/admin/reload"),
        ("GET", "/metrics", "/metrics"),
    ]
    for method, path, rule in asked:
        before = counted(rule, "401")
        answer = client.open(path, method=method)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer realm=image-similarity"
        assert counted(rule, "401") == before + 1, path


def test_where_there_are_no_keys_there_are_no_admin_routes(data: Path) -> None:
    client = create_app(Snapshots(data)).test_client()
    assert problem(client.post("/admin/reload"), 404)["title"] == "Not Found"
    assert problem(client.put("/v1/371/0341/products/p1"), 404)["title"] == "Not Found"
    assert client.get(SIMILAR).status_code == 200
