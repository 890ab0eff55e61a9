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
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import limits
from werkzeug.exceptions import TooManyRequests

from server.problems import http_problem
from server.telemetry.environ import COST, HOLDER
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
    INSERT INTO counts VALUES (:key, :cost, :now + :seconds) ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN ends BETWEEN :now AND :now + :seconds THEN count + :cost ELSE :cost END,
    ends = CASE WHEN ends BETWEEN :now AND :now + :seconds THEN ends ELSE :now + :seconds END
    RETURNING count, ends
"""  # a window that ends later than any can was begun before the clock was set back


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

    def hit(self, key: str, seconds: int, cost: int = 1) -> Window:
        """Count a request, or as many as it costs, in the current window, or in a new one of so many seconds. Raises
        `sqlite3.Error`."""
        now = time.time()
        with self._lock:
            told = {"key": key, "now": now, "seconds": seconds, "cost": cost}
            (row,) = self._database.execute(_COUNT, told).fetchall()
            if row[0] == cost:  # a window begins, so others may have ended
                self._database.execute("DELETE FROM counts WHERE ends <= ?", (now,))
        return Window(*row)


def parse_rate(text: str) -> limits.RateLimitItem:
    """Parse `600` (a minute), `600/minute`, `10/second`. Raises `ConfigError`."""
    try:
        return limits.parse(f"{text}/minute" if text.isdecimal() else text)
    except ValueError as error:
        raise ConfigError(f"RATE is {text!r}; it must be such as 600, 600/minute or 10/second.") from error


class Proxies:
    """The proxies in front of this server, by addresses or networks with commas between: only they are believed whom
    they ask for. Raises `ConfigError`."""

    def __init__(self, text: str) -> None:
        try:
            self._networks = [ip_network(part.strip()) for part in text.split(",")] if text else []
        except ValueError as error:
            raise ConfigError(f"PROXY is {text!r}: {error}. It must be such as 127.0.0.1,10.0.0.0/8.") from error

    def client(self, environ: "WSGIEnvironment") -> str:
        """The address of who asked: the last that a proxy tells, for those before it are what the client says."""
        peer: str = environ.get("REMOTE_ADDR", "")
        told = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        try:
            believed = any(ip_address(peer) in network for network in self._networks)
            return str(ip_address(told)) if believed else peer
        except ValueError:  # a Unix socket, or no address is told
            return peer


class RateLimits:
    """WSGI middleware, behind `Auth`, that answers 429 to a client that asks too often below /v1."""

    def __init__(self, app: "WSGIApplication", rate: str, path: Path | None, proxies: Proxies) -> None:
        self._app, self._rate, self._counts, self._proxies = app, parse_rate(rate), Counts(path), proxies

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "OPTIONS" or not environ["PATH_INFO"].lstrip("/").startswith("v1/"):
            return self._app(environ, start_response)
        client, seconds = environ.get(HOLDER) or self._proxies.client(environ), self._rate.get_expiry()
        try:
            window = self._counts.hit(client, seconds)
        except sqlite3.Error as error:  # a full disk stops no shop
            _log.error("Requests cannot be counted, so no limit holds: %s", error)
            return self._app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            counted = window
            if (more := environ.get(COST, 1) - 1) > 0:
                with suppress(sqlite3.Error):
                    counted = self._counts.hit(client, seconds, more)
            return start_response(status, [*headers, *self._told(counted)], *error)

        if window.count <= self._rate.amount:
            return self._app(environ, start)
        wait = _seconds_left(window)
        why = f"More than {self._rate} were asked. Ask again in {wait} seconds."
        return http_problem(TooManyRequests(why, retry_after=wait))(environ, start)

    def _told(self, window: Window) -> list[tuple[str, str]]:
        left = max(0, self._rate.amount - window.count)
        told = {"Limit": self._rate.amount, "Remaining": left, "Reset": _seconds_left(window)}
        return [(f"RateLimit-{name}", str(value)) for name, value in told.items()]


def _seconds_left(window: Window) -> int:
    return max(1, round(window.ends - time.time()))
