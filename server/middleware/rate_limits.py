"""Rate limits: how many requests each key may send, or each address if there are no keys, counted over all workers.

`limits`, whose syntax rates have, counts in memory of one process or in a service of its own. This counts in an SQLite
file that lives as long as the server: dividing the rate among workers would give a client that keeps one connection
only its worker's share.
"""

import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import limits
from werkzeug.exceptions import TooManyRequests

from server.problems import http_problem
from server.telemetry.environ import HOLDER
from shared.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_TABLE = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INTEGER, ends REAL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_end ON counts (ends);
"""
_COUNT = """
    INSERT INTO counts VALUES (:key, 1, :now + :seconds) ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN ends <= :now THEN 1 ELSE count + 1 END,
    ends = CASE WHEN ends <= :now THEN :now + :seconds ELSE ends END
    RETURNING count, ends
"""


@dataclass(frozen=True, slots=True)
class Window:
    """The number of a client's requests since a window began, and the window's end in seconds since 1970."""

    count: int
    ends: float


class Counts:
    """Counts in an SQLite file, or in memory without one. For many threads and processes."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        self._database.executescript(_TABLE)

    def hit(self, key: str, seconds: int) -> Window:
        """Count a request in the current window, or in a new one of so many seconds. Raises `sqlite3.Error`."""
        now = time.time()
        with self._lock:
            (row,) = self._database.execute(_COUNT, {"key": key, "now": now, "seconds": seconds}).fetchall()
            if row[0] == 1:  # a window begins, so others may have ended
                self._database.execute("DELETE FROM counts WHERE ends <= ?", (now,))
        return Window(*row)


def parse_rate(text: str) -> limits.RateLimitItem:
    """Parse `600` (a minute), `600/minute`, `10/second`. Raises `ConfigError`."""
    try:
        return limits.parse(f"{text}/minute" if text.isdecimal() else text)
    except ValueError as error:
        raise ConfigError(f"RATE is {text!r}; it must be such as 600, 600/minute or 10/second.") from error


class RateLimits:
    """WSGI middleware, behind `Auth`, that answers 429 to a client that asks too often below /v1."""

    def __init__(self, app: "WSGIApplication", rate: str, path: Path | None) -> None:
        self._app, self._rate, self._counts = app, parse_rate(rate), Counts(path)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "OPTIONS" or not environ["PATH_INFO"].lstrip("/").startswith("v1/"):
            return self._app(environ, start_response)
        try:
            window = self._counts.hit(environ.get(HOLDER) or environ.get("REMOTE_ADDR", ""), self._rate.get_expiry())
        except sqlite3.Error as error:  # a full disk stops no shop
            _log.error("Requests cannot be counted, so no limit holds: %s", error)
            return self._app(environ, start_response)
        left, seconds = self._rate.amount - window.count, max(1, round(window.ends - time.time()))
        told = {"Limit": self._rate.amount, "Remaining": max(0, left), "Reset": seconds}
        more = [(f"RateLimit-{name}", str(value)) for name, value in told.items()]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, *more], *error)

        if left >= 0:
            return self._app(environ, start)
        why = f"More than {self._rate} were asked. Ask again in {seconds} seconds."
        return http_problem(TooManyRequests(why, retry_after=seconds))(environ, start)
