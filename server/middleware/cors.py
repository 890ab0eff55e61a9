"""CORS: the origins whose pages may ask, and read the answers.

Flask answers OPTIONS. The headers are flask-cors's own, for its core needs no Flask application.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask_cors.core import DEFAULT_OPTIONS, get_cors_headers, serialize_options
from werkzeug.datastructures import EnvironHeaders

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_EXPOSED = ["X-Request-ID", "ETag", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]


class Cors:
    """WSGI middleware that lets pages of these origins, comma separated, ask from a browser."""

    def __init__(self, app: "WSGIApplication", origins: str) -> None:
        self._app = app
        options = {"origins": origins.split(","), "expose_headers": _EXPOSED, "max_age": 600}
        self._options = serialize_options({**DEFAULT_OPTIONS, **options})

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        allowed = get_cors_headers(self._options, EnvironHeaders(environ), environ["REQUEST_METHOD"])
        more = [(name, str(value)) for name, value in allowed.items(multi=True)]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, *more], *error)

        return self._app(environ, start)
