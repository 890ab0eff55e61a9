"""What serves here, and whether it can."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from flask import Response
from flask_openapi3 import OpenAPI, Tag
from pydantic import BaseModel, Field

from server.api.responses import json_answer
from server.serving.snapshots import Snapshots
from shared.errors import NotReady
from shared.snapshot.view import SnapshotView


class Index(BaseModel):
    """An index that serves, and how photos are with it: `ready`, `loading`, `off`, or why they cannot be searched."""

    department: str
    domain: str
    snapshot: str
    created: str
    products: int
    count: int = Field(description="Images.")
    dimension: int
    model: str
    failures: dict[str, int] = Field(description="Refused rows of the catalog, by kind.")
    photo_search: str


class Indexes(BaseModel):
    """All of them."""

    indexes: list[Index]


class Health(BaseModel):
    """The server is alive."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Both questions can be answered; how photos are with each partition, and which snapshots were refused, and why."""

    status: Literal["ready"]
    photo_search: dict[str, str]
    refused: dict[str, str]


_TAGS = [Tag(name="state", description="What serves here?")]


def add_state(
    app: OpenAPI,
    snapshots: Snapshots,
    coming: Callable[[], Iterable[str]] = tuple,
    told: Callable[[], Mapping[int, Mapping[str, str]]] = dict,
) -> None:
    """Add the routes. `coming` tells what is pulled first, `told` what each worker of this server serves."""

    @app.get("/v1/indexes", tags=_TAGS, responses={200: Indexes})
    def indexes() -> Response:
        """The indexes that serve"""
        return json_answer({"indexes": [_index(snapshots, snapshot) for snapshot in snapshots.open.values()]})

    @app.get("/healthz", tags=_TAGS, responses={200: Health})
    def health() -> Response:
        """Whether the server is alive"""
        return json_answer({"status": "alive"})

    @app.get("/readyz", tags=_TAGS, responses={200: Readiness})
    def ready() -> Response:
        """Whether both questions can be answered"""
        photos = snapshots.serving()
        if not photos:
            reasons = "; ".join(f"{name}: {why}" for name, why in snapshots.refused.items())
            raise NotReady(f"No snapshot serves. {reasons or 'Make one: make index.'}")
        if pulled := [name for name in coming() if name not in photos]:
            raise NotReady(f"These are being pulled: {', '.join(pulled)}.")
        waiting = [f"{name}: {state}" for name, state in photos.items() if state not in ("ready", "off")]
        if waiting:
            raise NotReady("Photos cannot be searched yet. " + "; ".join(waiting))
        everywhere = {**photos, **{name: state for worker in told().values() for name, state in worker.items()}}
        for worker in (photos, *told().values()):
            if behind := [name for name in everywhere if worker.get(name) not in ("ready", "off")]:
                raise NotReady(f"Not all workers of this server have opened {', '.join(behind)} yet.")
        return json_answer({"status": "ready", "photo_search": photos, "refused": dict(snapshots.refused)})


def _index(snapshots: Snapshots, snapshot: SnapshotView) -> dict[str, Any]:
    manifest = snapshot.manifest
    return {
        "department": manifest.department,
        "domain": manifest.domain,
        "snapshot": snapshot.id,
        "created": manifest.created,
        "products": manifest.products,
        "count": manifest.count,
        "dimension": manifest.dimension,
        "model": manifest.embedder["name"],
        "failures": manifest.failures,
        "photo_search": snapshots.photo_search(snapshot),
    }
