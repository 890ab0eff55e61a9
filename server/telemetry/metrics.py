"""Counters and timers for Prometheus, over all processes of a server.

Under gunicorn each process counts in files of its own (the client library's multiprocess mode), and whichever worker is
asked sums them up.
"""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from server.config import metrics_folder
from shared import timing

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
_NOT_AUDITED = Counter("similarity_not_audited", "Changes that the audit log lacks.", registry=_OWN)
_WORKERS = Gauge("similarity_workers", "Workers that live.", registry=_OWN, multiprocess_mode="livesum")

timing.listen(lambda stage, seconds: _STAGES.labels(stage).observe(seconds))


def answered(route: tuple[str, str], status: str, seconds: float) -> None:
    """Count a request that was answered."""
    _requests(*route, status).observe(seconds)


def refused(kind: str) -> None:
    """Count a request that was refused, or failed."""
    _REFUSALS.labels(kind).inc()


def not_audited() -> None:
    """Count a change that the audit log lacks."""
    _NOT_AUDITED.inc()


def worker_lives() -> None:
    """Count this process as a worker that lives."""
    _WORKERS.set(1)


def exposition() -> bytes:
    """The counts of all processes of this server, in Prometheus's text format."""
    counted = _OWN
    if folder := metrics_folder():
        counted = CollectorRegistry()
        MultiProcessCollector(counted, folder)  # type: ignore[no-untyped-call]
    return generate_latest(counted)
