"""What every request passes first, whatever answers it: its id, headers that make browsers careful, the clock."""

import re
import time
from collections.abc import Iterable
from contextvars import ContextVar
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from server.metrics import ROUTE, answered

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

request_id: ContextVar[str] = ContextVar("request_id", default="-")
_SANE = re.compile("[A-Za-z0-9._-]{1,64}")
_POLICY = "Content-Security-Policy"
_CAREFUL = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
# For JSON. A page says itself what it may load.
_NOTHING = (_POLICY, "default-src 'none'; frame-ancestors 'none'")
_NONE = ("", "none")  # anybody can make up methods and paths


class Front:
    """A WSGI application before the one that answers."""

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
            answered(environ.get(ROUTE, _NONE), heard, time.perf_counter() - began)
