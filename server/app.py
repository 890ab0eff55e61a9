"""The HTTP service: its parts put together, and the one table from errors to statuses."""

import logging
from collections.abc import Callable
from functools import partial

from flask import Flask, request
from flask_compress import Compress
from flask_openapi3 import Info, OpenAPI
from werkzeug import Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from server.api.admin import add_admin
from server.api.catalog import add_browse
from server.api.docs import add_docs
from server.api.live import add_live
from server.api.page import add_page
from server.api.photo_body import MAX_BODY, CheckedRequest
from server.api.queries import Queries
from server.api.requests import refuse
from server.api.responses import PROBLEMS
from server.api.search import add_questions, like_product
from server.api.status import add_metrics, add_state
from server.config import ServerConfig, traces_wanted
from server.fetching.catalog_images import CatalogImages
from server.fetching.photos import Fetch
from server.inference.networks import Networks
from server.inference.photo_queue import PhotoQueue
from server.middleware.api_keys import Keys
from server.middleware.audit import Audit
from server.middleware.auth import Auth
from server.middleware.caching import WORTH_COMPRESSING, Caching
from server.middleware.cors import Cors
from server.middleware.fast_path import FastPath
from server.middleware.gone import CLIENT_GONE, DropGone
from server.middleware.rate_limits import Proxies, RateLimits
from server.middleware.request_log import RequestLog
from server.middleware.routes import Routes
from server.problems import http_problem, problem
from server.serving.depot_follower import coming, follow, looked_at, problems
from server.serving.reload_signal import ReloadSignal
from server.serving.snapshots import Snapshots
from server.serving.workers import Processes
from server.telemetry.tracing import trace
from shared.errors import (
    BadPicture,
    BadQuestion,
    Busy,
    ClientGone,
    JournalDamaged,
    NotKept,
    NotReady,
    QuestionError,
    UnknownPartition,
    UnknownProduct,
)
from shared.refusals import Kind

_STATUS: dict[type[QuestionError], tuple[int, str]] = {
    UnknownPartition: (404, "Unknown partition"),
    UnknownProduct: (404, "Unknown product"),
    BadQuestion: (400, "Bad question"),
    BadPicture: (422, "Bad picture"),
    NotReady: (503, "Not ready"),
    ClientGone: CLIENT_GONE,
    Busy: (503, "Busy"),
    NotKept: (507, "Not kept"),
    JournalDamaged: (503, "Journal damaged"),
}
_PICTURE_STATUS = {
    Kind.EMPTY: 400,
    Kind.BAD_CROP: 400,
    Kind.BAD_URL: 400,
    Kind.REFUSED_ADDRESS: 400,
    Kind.REFUSED_REDIRECT: 400,
    Kind.TOO_LARGE: 413,
    Kind.TOO_MANY_PIXELS: 413,
    Kind.UNSUPPORTED_FORMAT: 415,
}
_log = logging.getLogger(__name__)


def create_app(
    snapshots: Snapshots,
    config: ServerConfig | None = None,
    fetch: Callable[[str], bytes] | None = None,
    turns: PhotoQueue | None = None,
) -> Flask:
    """Build the WSGI application over these snapshots. `fetch` returns the bytes of a photo's URL."""
    config = config or ServerConfig()
    processes = Processes(config.processes) if config.processes else None
    app = OpenAPI(
        __name__,
        static_folder=None,
        info=Info(title="image-similarity", version="1", description="Which products look most like this?"),
        responses=PROBLEMS,
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_status="4XX",
        validation_error_callback=refuse,
        doc_ui=False,
    )
    app.request_class = CheckedRequest
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, PROVIDE_AUTOMATIC_OPTIONS=bool(config.cors_origins))
    app.url_map.merge_slashes = False
    app.url_map.converters.update(id=_IdConverter, product=_ProductConverter)
    if traces_wanted():
        trace(app)
    add_questions(app, Queries(snapshots, fetch or Fetch(config.photo_hosts or ""), turns or PhotoQueue()))
    add_browse(app, snapshots)
    told = processes.states if processes else tuple
    add_state(app, snapshots, partial(coming, config.data) if config.depot else tuple, told)
    add_admin(app, ReloadSignal(config.data))
    add_live(app, snapshots, CatalogImages(config.image_url))
    add_docs(app)
    add_page(app, snapshots)
    add_metrics(app, snapshots, partial(looked_at, config.data) if config.depot else None)
    _add_errors(app)
    _compress(app)
    _add_middleware(app, snapshots, config, processes)
    return app


def serve() -> Flask:
    """Build the application of a gunicorn worker: over a data folder, following its snapshots."""
    config = ServerConfig.from_environment()
    follow(config)
    refused_before = partial(problems, config.data) if config.depot else dict
    processes = Processes(config.processes) if config.processes else None
    turns = PhotoQueue(processes.line if processes else None, config.photos_at_once)
    networks = Networks(config.signing_key, config.runtime, turns)
    snapshots = Snapshots(config.data, key=config.signing_key, problems=refused_before, networks=networks)
    snapshots.follow(processes.tell if processes else None)
    return create_app(snapshots, config, turns=turns)


class _IdConverter(BaseConverter):
    """A product id in a path, which may hold any character, slashes too."""

    regex = "(?s:.+?)"
    part_isolating = False


class _ProductConverter(_IdConverter):
    """The id of a product that is put or deleted, which must not read like a request about another."""

    regex = r"(?s:(?!.*/(?:similar|image|pins)\Z).+?)"


def _compress(app: Flask) -> None:
    app.config.update(
        COMPRESS_ALGORITHM=["gzip"],
        COMPRESS_MIN_SIZE=WORTH_COMPRESSING,
        COMPRESS_STREAMS=False,
        COMPRESS_EVALUATE_CONDITIONAL_REQUEST=False,  # `Caching` does, later
    )
    Compress(app)


def _add_middleware(app: Flask, snapshots: Snapshots, config: ServerConfig, processes: Processes | None) -> None:
    """Put the WSGI middleware in front of Flask, the innermost first."""
    wsgi = app.wsgi_app
    if not traces_wanted():  # which are of requests that Flask answers
        wsgi = FastPath(wsgi, partial(like_product, snapshots))
    wsgi = Audit(DropGone(wsgi), config.data)
    if config.rate:
        wsgi = RateLimits(wsgi, config.rate, processes.rates if processes else None, Proxies(config.proxy or ""))
    wsgi = Auth(wsgi, Keys(config.keys, config.admin_key), Routes(app.url_map, app.view_functions).role_of)
    wsgi = Caching(wsgi)
    if config.cors_origins:
        wsgi = Cors(wsgi, config.cors_origins)
    app.wsgi_app = RequestLog(wsgi)  # type: ignore[method-assign]


def _add_errors(app: Flask) -> None:
    @app.errorhandler(QuestionError)
    def question_error(error: QuestionError) -> Response:
        status, title = _STATUS[type(error)]
        if isinstance(error, BadPicture):
            return problem(_PICTURE_STATUS.get(Kind(error.kind), status), title, str(error), kind=str(error.kind))
        return problem(status, title, str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return http_problem(error)

    @app.errorhandler(Exception)
    def program_error(error: Exception) -> Response:
        _log.exception("%s %s failed", request.method, request.path.encode("unicode_escape").decode())
        return problem(500, "Internal error", "The server failed to answer. The log says why.")
