"""The request log: an id for every request, a line in the log and in the metrics, and headers that make browsers
careful."""

import logging
import re
import time
from collections.abc import Iterable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from server.telemetry.environ import HOLDER, ROUTE
from server.telemetry.logs import request_id
from server.telemetry.metrics import answered

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_SANE = re.compile("[A-Za-z0-9._-]{1,64}")
_POLICY = "Content-Security-Policy"
_CAREFUL = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
# For JSON. A page says itself what it may load.
_NOTHING = (_POLICY, "default-src 'none'; frame-ancestors 'none'")
_NONE = ("", "none")  # anybody can make up methods and paths


class RequestLog:
    """WSGI middleware in front of all other middleware."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        mark = given if _SANE.fullmatch(given) else token_hex(8)
        request_id.set(mark)
        began, heard = time.perf_counter(), "500"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal heard
            heard = status[:3]
            headers = [*headers, ("X-Request-ID", mark), *_CAREFUL]
            if not any(name == _POLICY for name, _ in headers):
                headers.append(_NOTHING)
            return start_response(status, headers, *error)

        try:
            return self._app(environ, start)
        finally:
            seconds, (method, route) = time.perf_counter() - began, environ.get(ROUTE, _NONE)
            answered((method, route), heard, seconds)
            if _log.isEnabledFor(logging.INFO):
                _tell(environ, {"route": route, "status": int(heard), "seconds": round(seconds, 6)})


def _tell(environ: "WSGIEnvironment", told: dict[str, Any]) -> None:
    """Write a line about a request: never its query string, which people put secrets into, nor its body."""
    method, key = environ["REQUEST_METHOD"], environ.get(HOLDER)
    path = environ["PATH_INFO"].encode("unicode_escape").decode()[:200]
    line = f"{method} {path} {told['status']} {1000 * told['seconds']:.1f} ms"
    _log.info("%s", line, extra={"method": method, "path": path, "key": key, **told})
