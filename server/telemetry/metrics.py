"""What is counted and timed, for Prometheus, over all processes of a server.

Under gunicorn each process counts in files of its own (the client library's multiprocess mode), and whichever worker is
asked sums them up. What the snapshots are, it reads off its own.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache

from flask import Response, request
from flask_openapi3 import OpenAPI, Tag
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from server.config import metrics_folder
from server.inference.networks import READY
from server.middleware.auth import require
from server.serving.snapshots import Snapshots
from shared import timing

ROUTE = "similarity.route"  # in the WSGI environment: the method and the rule that matched, never an id
_OWN = CollectorRegistry()
_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUESTS = Histogram(
    "similarity_request_seconds", "Requests.", ["method", "route", "status"], registry=_OWN, buckets=_QUICK
)
_STAGES = Histogram(
    "similarity_stage_seconds", "decode, queue, embed (a batch), search.", ["stage"], registry=_OWN, buckets=_QUICK
)
_requests = lru_cache(4096)(_REQUESTS.labels)  # which takes longer than to observe
_REFUSALS = Counter("similarity_refusals", "What was not answered, and why.", ["kind"], registry=_OWN)
_WORKERS = Gauge("similarity_workers", "Workers that live.", registry=_OWN, multiprocess_mode="livesum")

timing.listen(lambda stage, seconds: _STAGES.labels(stage).observe(seconds))


def answered(route: tuple[str, str], status: str, seconds: float) -> None:
    """A request was answered."""
    _requests(*route, status).observe(seconds)


def refused(kind: str) -> None:
    """A request was refused, or failed."""
    _REFUSALS.labels(kind).inc()


def expose(app: OpenAPI, snapshots: Snapshots, looked_at: Callable[[], float] | None = None) -> None:
    """Add `GET /metrics`, and note which route a request matched. To be called before `guard`. `looked_at` tells when
    somebody last looked into the depot, where one is followed."""
    _WORKERS.set(1)
    gauges_now = CollectorRegistry()
    gauges_now.register(_GaugesNow(snapshots, looked_at))

    @app.before_request
    def note() -> None:
        if request.url_rule:
            request.environ[ROUTE] = request.method, request.url_rule.rule

    text = {"description": "Prometheus's text format", "content": {"text/plain": {"schema": {"type": "string"}}}}

    @app.get("/metrics", tags=[Tag(name="state")], responses={200: text})
    @require("read")
    def metrics() -> Response:
        """What Prometheus reads"""
        counted = _OWN
        if folder := metrics_folder():
            counted = CollectorRegistry()
            MultiProcessCollector(counted, folder)  # type: ignore[no-untyped-call]
        return Response(generate_latest(counted) + generate_latest(gauges_now), content_type=CONTENT_TYPE_LATEST)


class _GaugesNow(Collector):
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
            if "estimate" in manifest.quality:
                quality.add_metric([name], manifest.quality["estimate"])
            photos.add_metric([name], self._snapshots.photo_search(snapshot) == READY)
        for name in self._snapshots.refused:
            refused.add_metric([name], 1)
        if self._looked_at:
            when = "When the depot was looked into last."
            yield GaugeMetricFamily("similarity_depot_looked_timestamp_seconds", when, value=self._looked_at())
        yield from (created, products, images, quality, photos, refused)


def _gauge(name: str, help: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"similarity_snapshot_{name}", help, labels=["partition"])
