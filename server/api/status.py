"""Routes that tell the state of the server: its indexes, its health, and metrics for Prometheus."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal

from flask import Response
from flask_openapi3 import OpenAPI, Tag
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field

from server.api.responses import model_answer
from server.inference.photo_state import READY, PhotoState
from server.middleware.routes import require
from server.serving.snapshots import Snapshots
from server.telemetry.metrics import exposition, worker_lives
from shared.errors import NotReady
from shared.snapshot.view import SnapshotView


class Index(BaseModel):
    """An index that serves, and the state of photo search in it: `ready`, `loading`, `off`, or the reason why it
    failed."""

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
    """All indexes that serve."""

    indexes: list[Index]


class Health(BaseModel):
    """The server is alive."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """The server can answer products and photos; the state of photo search in each partition, which snapshots were
    refused, and why, and which live changes are damaged, and what to do."""

    status: Literal["ready"]
    photo_search: dict[str, str]
    refused: dict[str, str]
    live_changes: dict[str, str]


_TAGS = [Tag(name="state", description="What serves here?")]
_Workers = Iterable[Mapping[str, PhotoState]]


def add_state(
    app: OpenAPI,
    snapshots: Snapshots,
    coming: Callable[[], Iterable[str]] = tuple,
    told: Callable[[], _Workers] = tuple,
) -> None:
    """Add the routes. `coming` gives the partitions that are pulled first, `told` what each worker serves."""

    @app.get("/v1/indexes", tags=_TAGS, responses={200: Indexes})
    def indexes() -> Response:
        """The indexes that serve"""
        return model_answer(Indexes(indexes=[_index(snapshots, snapshot) for snapshot in snapshots.open.values()]))

    @app.get("/healthz", tags=_TAGS, responses={200: Health})
    def health() -> Response:
        """Tell whether the server is alive"""
        return model_answer(Health(status="alive"))

    @app.get("/readyz", tags=_TAGS, responses={200: Readiness})
    def ready() -> Response:
        """Tell whether both questions can be answered"""
        states = snapshots.photo_states()
        _check_snapshots(states, snapshots.refused, coming)
        _check_workers([states, *told()])
        photos = {name: str(state) for name, state in states.items()}
        refused, damaged = dict(snapshots.refused), dict(snapshots.damaged)
        return model_answer(Readiness(status="ready", photo_search=photos, refused=refused, live_changes=damaged))


def add_metrics(app: OpenAPI, snapshots: Snapshots, looked_at: Callable[[], float] | None = None) -> None:
    """Add `GET /metrics`. `looked_at` returns when the follower last looked into the depot, if one is followed."""
    worker_lives()
    gauges = CollectorRegistry()
    gauges.register(_SnapshotGauges(snapshots, looked_at))
    text = {"description": "Prometheus's text format", "content": {"text/plain": {"schema": {"type": "string"}}}}

    @app.get("/metrics", tags=[Tag(name="state")], responses={200: text})
    @require("read")
    def metrics() -> Response:
        """Metrics for Prometheus"""
        return Response(exposition() + generate_latest(gauges), content_type=CONTENT_TYPE_LATEST)


class _SnapshotGauges(Collector):
    """Gauges of the snapshots that this process serves."""

    def __init__(self, snapshots: Snapshots, looked_at: Callable[[], float] | None) -> None:
        self._snapshots, self._looked_at = snapshots, looked_at

    def collect(self) -> Iterable[Metric]:
        created = _gauge("created_timestamp_seconds", "When the snapshot that serves was made.")
        products, images = _gauge("products", "Its products."), _gauge("images", "Its images.")
        quality = _gauge("quality", "Its estimated R@1.")
        photos = _gauge("photo_search", "1 where photos can be searched, else 0.")
        refused = _gauge("refused", "1 where a newer snapshot, or the depot, is refused.")
        for name, snapshot in self._snapshots.open.items():
            manifest = snapshot.manifest
            created.add_metric([name], datetime.fromisoformat(manifest.created).timestamp())
            products.add_metric([name], manifest.products)
            images.add_metric([name], manifest.count)
            if manifest.quality.estimate is not None:
                quality.add_metric([name], manifest.quality.estimate)
            photos.add_metric([name], self._snapshots.photo_state(snapshot) == READY)
        for name in self._snapshots.refused:
            refused.add_metric([name], 1)
        what = "1 where live changes are damaged, or cannot be read."
        damaged = GaugeMetricFamily("similarity_live_changes_damaged", what, labels=["partition"])
        for name in self._snapshots.damaged:
            damaged.add_metric([name], 1)
        if self._looked_at:
            when = "When the depot was looked into last."
            yield GaugeMetricFamily("similarity_depot_looked_timestamp_seconds", when, value=self._looked_at())
        yield from (created, products, images, quality, photos, refused, damaged)


def _gauge(name: str, help: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"similarity_snapshot_{name}", help, labels=["partition"])


def _check_snapshots(
    states: Mapping[str, PhotoState], refused: Mapping[str, str], coming: Callable[[], Iterable[str]]
) -> None:
    """Raise `NotReady` unless this worker has all snapshots and networks."""
    if not states:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise NotReady(f"No snapshot serves. {reasons or 'Make one: make index.'}")
    if pulled := [name for name in coming() if name not in states]:
        raise NotReady(f"These are being pulled: {', '.join(pulled)}.")
    if waiting := [f"{name}: {state}" for name, state in states.items() if not state.serves]:
        raise NotReady("Photos cannot be searched yet. " + "; ".join(waiting))


def _check_workers(workers: _Workers) -> None:
    """Raise `NotReady` unless all of these workers serve the same partitions."""
    workers = list(workers)
    names = dict.fromkeys(name for worker in workers for name in worker)
    for worker in workers:
        if behind := [name for name in names if name not in worker or not worker[name].serves]:
            raise NotReady(f"Not all workers of this server have opened {', '.join(behind)} yet.")


def _index(snapshots: Snapshots, snapshot: SnapshotView) -> Index:
    manifest = snapshot.manifest
    return Index(
        department=manifest.department,
        domain=manifest.domain,
        snapshot=snapshot.id,
        created=manifest.created,
        products=manifest.products,
        count=manifest.count,
        dimension=manifest.dimension,
        model=manifest.embedder.name,
        failures=dict(manifest.failures),
        photo_search=str(snapshots.photo_state(snapshot)),
    )
