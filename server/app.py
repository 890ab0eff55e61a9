"""The HTTP service: routes, and the one table from errors to statuses."""

import json
import logging
import re
from functools import lru_cache, partial
from threading import BoundedSemaphore
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from server.admin import add_admin
from server.browse import add_browse
from server.config import ServerConfig
from server.doorbell import Doorbell
from server.follower import follow, problems
from server.page import add_page
from server.photo import MAX_BODY, photo_of
from server.quick import Quick
from server.reload import Snapshots
from server.remote import RemoteNetworks
from shared.errors import BadPicture, BadQuestion, Busy, NotReady, QuestionError, UnknownPartition, UnknownProduct
from shared.products import Neighbour
from shared.refusals import Kind
from shared.similar import MOST, Wanted, similar_to_photo, similar_to_product
from shared.snapshot import Snapshot

_STATUS: dict[type[QuestionError], tuple[int, str]] = {
    UnknownPartition: (404, "Unknown partition"),
    UnknownProduct: (404, "Unknown product"),
    BadQuestion: (400, "Bad question"),
    BadPicture: (422, "Bad picture"),
    NotReady: (503, "Not ready"),
    Busy: (503, "Busy"),
}
_PICTURE_STATUS = {Kind.EMPTY: 400, Kind.TOO_LARGE: 413, Kind.TOO_MANY_PIXELS: 413, Kind.UNSUPPORTED_FORMAT: 415}
_VERDICTS = {name: json.dumps(name or None).encode() for name in ("", "same", "variant", "similar", "none")}
# Fewer than a worker has threads: the others answer what needs no network.
PHOTOS_AT_ONCE = 20
_log = logging.getLogger(__name__)


def create_app(snapshots: Snapshots) -> Flask:
    """The WSGI application over these snapshots."""
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.url_map.merge_slashes = False
    app.url_map.converters["id"] = _IdConverter
    _add_questions(app, snapshots)
    add_browse(app, snapshots)
    add_page(app, snapshots)
    _add_state(app, snapshots)
    _add_errors(app)
    app.wsgi_app = Quick(app.wsgi_app, partial(_like_product, snapshots))  # type: ignore[method-assign]
    return app


def serve() -> Flask:
    """What gunicorn runs in each worker: the application over a data folder, following its snapshots."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = ServerConfig.from_environment()
    follow(config)
    refused_before = partial(problems, config.data) if config.depot else dict
    networks = RemoteNetworks(config.networks) if config.networks else None
    snapshots = Snapshots(config.data, key=config.signing_key, problems=refused_before, networks=networks)
    snapshots.follow()
    app = create_app(snapshots)
    if config.admin_key:
        add_admin(app, config.admin_key, Doorbell(config.data))
    return app


class _IdConverter(BaseConverter):
    """Product ids may hold any character, slashes too."""

    regex = "(?s:.+?)"
    part_isolating = False


def _add_questions(app: Flask, snapshots: Snapshots) -> None:
    turns = BoundedSemaphore(PHOTOS_AT_ONCE)

    @app.get("/v1/<department>/<domain>/products/<id:product_id>/similar")
    def similar(department: str, domain: str, product_id: str) -> Response:
        snapshot = snapshots.get(f"{department}/{domain}")
        return _answer(snapshot, _body(snapshot, similar_to_product(snapshot, product_id, _wanted()), "product"))

    @app.post("/v1/<department>/<domain>/search")
    def search(department: str, domain: str) -> Response:
        snapshot = snapshots.get(f"{department}/{domain}")
        wanted, photo = _wanted(), photo_of(request)
        if not turns.acquire(blocking=False):
            raise Busy(f"{PHOTOS_AT_ONCE} photos are being searched already. Send it again in some seconds.")
        try:
            neighbours = similar_to_photo(snapshot, snapshots.embedder(snapshot), photo, wanted)
        finally:
            turns.release()
        return _answer(snapshot, _body(snapshot, neighbours, "photo"))


def _add_state(app: Flask, snapshots: Snapshots) -> None:
    @app.get("/v1/indexes")
    def indexes() -> Response:
        return _json({"indexes": [_index(snapshots, snapshot) for snapshot in snapshots.open.values()]})

    @app.get("/healthz")
    def health() -> Response:
        return _json({"status": "alive"})

    @app.get("/readyz")
    def ready() -> Response:
        photos = {name: snapshots.photo_search(snapshot) for name, snapshot in snapshots.open.items()}
        if not photos:
            reasons = "; ".join(f"{name}: {why}" for name, why in snapshots.refused.items())
            raise NotReady(f"No snapshot serves. {reasons or 'Make one: make index.'}")
        waiting = [f"{name}: {state}" for name, state in photos.items() if state not in ("ready", "off")]
        if waiting:
            raise NotReady("Photos cannot be searched yet. " + "; ".join(waiting))
        return _json({"status": "ready", "photo_search": photos, "refused": dict(snapshots.refused)})


def _add_errors(app: Flask) -> None:
    @app.errorhandler(QuestionError)
    def question_error(error: QuestionError) -> Response:
        status, title = _STATUS[type(error)]
        if isinstance(error, BadPicture):
            return _problem(_PICTURE_STATUS.get(Kind(error.kind), status), title, str(error), kind=str(error.kind))
        return _problem(status, title, str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return _problem(error.code or 500, error.name, error.description or "")

    @app.errorhandler(Exception)
    def program_error(error: Exception) -> Response:
        _log.exception("%s %s failed", request.method, request.path.encode("unicode_escape").decode())
        return _problem(500, "Internal error", "The server failed to answer. The log says why.")


def _wanted() -> Wanted:
    """The question's parameters. Raises `BadQuestion`."""
    k, diversity = request.args.get("k", "10"), request.args.get("diversity", "0")
    collapse = request.args.get("collapse", "")
    if not re.fullmatch("[0-9]{1,4}", k):
        raise BadQuestion(f"k is {k!r:.40}; it must be a whole number from 1 to {MOST:,}.")
    if not re.fullmatch(r"[01]?\.?[0-9]{1,6}", diversity):
        raise BadQuestion(f"diversity is {diversity!r:.40}; it must be a number from 0 to 1.")
    if collapse not in ("", "variant"):
        raise BadQuestion(f"collapse is {collapse!r:.40}; the only value is variant.")
    return Wanted(int(k), collapse == "variant", float(diversity))


def _like_product(snapshots: Snapshots, partition: str, product_id: str, wanted: Wanted) -> tuple[Snapshot, bytes]:
    snapshot = snapshots.get(partition)
    return snapshot, _body(snapshot, similar_to_product(snapshot, product_id, wanted), "product")


def _answer(snapshot: Snapshot, body: bytes) -> Response:
    return Response(body, mimetype="application/json", headers={"ETag": f'"{snapshot.id}"'})


def _body(snapshot: Snapshot, neighbours: list[Neighbour], question: str) -> bytes:
    # The table's lines are JSON objects already: rank, score and verdict go in at the front of each.
    results = b",".join(
        [
            b'{"rank":%d,"score":%r,"verdict":%b,%b' % (n.rank, n.score, _VERDICTS[n.verdict], n.line[1:])
            for n in neighbours
        ]
    )
    verdicts = snapshot.verdicts.get(question)
    head = _head(snapshot.id, tuple(verdicts.false_alarms.items()) if verdicts else None)
    return b"%b%b]}" % (head, results)


@lru_cache(64)
def _head(snapshot_id: str, false_alarms: tuple[tuple[str, float], ...] | None) -> bytes:
    alarms = json.dumps(None if false_alarms is None else dict(false_alarms)).encode()
    return b'{"snapshot":"%b","false_alarms":%b,"results":[' % (snapshot_id.encode(), alarms)


def _index(snapshots: Snapshots, snapshot: Snapshot) -> dict[str, Any]:
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


def _json(body: dict[str, Any], status: int = 200, mimetype: str = "application/json") -> Response:
    return Response(json.dumps(body, allow_nan=False, separators=(",", ":")), status, mimetype=mimetype)


def _problem(status: int, title: str, detail: str, **more: str) -> Response:
    """An RFC 9457 problem."""
    kind = "urn:image-similarity:" + title.lower().replace(" ", "-")
    body = {"type": kind, "title": title, "status": status, "detail": detail, **more}
    response = _json(body, status, "application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response
