"""A client that changes products as an admin."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask.testing import FlaskClient

from server.app import create_app
from server.config import ServerConfig
from server.serving.snapshots import Snapshots
from tests.support.pictures import drawn

KEY = "open sesame"
ADMIN = {"Authorization": f"Bearer {KEY}"}


BASE = "/v1/371/0341"


def picture(seed: int) -> bytes:
    """The drawn picture of a live product."""
    return drawn(seed, (48, 48))


class Client:
    """Asks as an admin, of snapshots that look at once."""

    def __init__(self, data: Path, image_url: str | None = None) -> None:
        self.snapshots = Snapshots(data)
        config = ServerConfig(data, admin_key=KEY, image_url=image_url)
        self.http: FlaskClient = create_app(self.snapshots, config).test_client()

    def ask(self, method: str, path: str, status: int = 200, **sent: Any) -> Any:
        answer = self.http.open(BASE + path, method=method, headers=ADMIN, **sent)
        assert answer.status_code == status, answer.data
        if status != 200:
            assert answer.mimetype == "application/problem+json"
        self.snapshots.apply_changes()
        return answer.get_json() if answer.mimetype == "application/json" else json.loads(answer.data)

    def put(self, name: str, *seeds: int, status: int = 200, **more: Any) -> Any:
        images = [{"image_id": f"i{seed}", "image_base64": base64.b64encode(picture(seed)).decode()} for seed in seeds]
        return self.ask("PUT", f"/products/{quote(name, safe='')}", status, json={"images": images, **more})

    def similar(self, name: str, k: int = 10) -> list[str]:
        found = self.ask("GET", f"/products/{quote(name, safe='')}/similar?k={k}")["results"]
        return [answer["product_id"] for answer in found]

    def seen(self, seed: int, k: int = 1) -> list[str]:
        return [answer["product_id"] for answer in self.ask("POST", f"/search?k={k}", data=picture(seed))["results"]]
