"""HTTP caching: answer 304 to a client that has the answer of that `ETag`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.http import parse_etags, unquote_etag
from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A smaller answer is there with the first packets anyway, and most answers are.
WORTH_COMPRESSING = 8192
_VARY = "Vary", "Accept-Encoding"
# Caches may keep an answer, but ask each time: when a shop goes back to another snapshot, that shows at once.
_CACHE_CONTROL = "Cache-Control", "no-cache"
_OF_A_BODY = ("content-type", "content-length", "content-encoding")


class Caching:
    """WSGI middleware that answers 304, and sets `Vary` and `Cache-Control`."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        unchanged = False

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal unchanged
            named = {name.lower(): value for name, value in headers}
            if "vary" not in named:
                headers = [*headers, _VARY]
            if "etag" in named and status.startswith("200") and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                if "cache-control" not in named:
                    headers = [*headers, _CACHE_CONTROL]
                unchanged = _has(environ, named["etag"])
                if unchanged:
                    headers = [header for header in headers if header[0].lower() not in _OF_A_BODY]
                    status = "304 NOT MODIFIED"
            return start_response(status, headers, *error)

        body = self._app(environ, start)
        return ClosingIterator((), getattr(body, "close", None)) if unchanged else body


def _has(environ: "WSGIEnvironment", etag: str) -> bool:
    """Tell whether the client has the answer with this `ETag` already."""
    given = environ.get("HTTP_IF_NONE_MATCH")
    return bool(given) and parse_etags(given).contains_weak(unquote_etag(etag)[0] or "")
