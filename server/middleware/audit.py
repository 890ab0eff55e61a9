"""Audit of requests: an entry for each that an admin's key was required and shown for, unless it only reads.

Requests without a valid key have none: anybody could fill the log with them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.telemetry.audit import note
from server.telemetry.environ import ACTOR, PARTITION, ROUTE, WHAT
from server.telemetry.logs import request_id
from shared.audit import Entry, Fact

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_READING = ("GET", "HEAD", "OPTIONS")


class Audit:
    """WSGI middleware behind `Auth`. The entry is written before the answer is sent."""

    def __init__(self, app: "WSGIApplication", data: Path) -> None:
        self._app, self._data = app, data

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        actor = environ.get(ACTOR)
        if actor is None or environ["REQUEST_METHOD"] in _READING:
            return self._app(environ, start_response)
        heard = "500"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal heard
            heard = status[:3]
            return start_response(status, headers, *error)

        try:
            return self._app(environ, start)
        finally:
            outcome = "done" if heard.startswith("2") else f"refused: {heard}"
            action, what = " ".join(environ[ROUTE]), environ.get(WHAT, {})
            note(self._data, Entry(action, actor, environ.get(PARTITION), what, outcome, request_id.get()))


def tell(environ: "WSGIEnvironment", partition: str, **what: Fact) -> None:
    """Tell the audit which partition a request changes, and facts of the change."""
    environ[PARTITION] = partition
    environ.setdefault(WHAT, {}).update(what)
