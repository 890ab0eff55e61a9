"""How often each key may ask, or each address where there are no keys: one count for all processes of a server.

`limits` counts in memory of one process or in a service of its own. This counts in an SQLite file that lives as long as
the server: dividing the rate among workers would give a client that keeps one connection only its worker's share.
"""

import logging
import sqlite3
import threading
import time
from pathlib import Path

import limits
from flask import Flask, Response, g, request
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from server.middleware.auth import HOLDER
from shared.errors import ConfigError

_log = logging.getLogger(__name__)
_TABLE = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INTEGER, ends REAL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_end ON counts (ends);
"""
_COUNT = """
    INSERT INTO counts VALUES (:key, :amount, :now + :expiry) ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN ends <= :now THEN 0 ELSE count END + :amount,
    ends = CASE WHEN ends <= :now THEN :now + :expiry ELSE ends END
    RETURNING count
"""


class Counts(Storage):
    """A `limits` storage in an SQLite file, or in memory without one. For many threads and processes."""

    STORAGE_SCHEME = None
    base_exceptions = sqlite3.Error

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._database.executescript(_TABLE)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        with self._lock:
            ((count,),) = self._database.execute(
                _COUNT, {"key": key, "amount": amount, "now": now, "expiry": expiry}
            ).fetchall()
            if count == amount:  # a window begins, so others may have ended
                self._database.execute("DELETE FROM counts WHERE ends <= ?", (now,))
        return int(count)

    def get(self, key: str) -> int:
        return int(self._row(key)[0])

    def get_expiry(self, key: str) -> float:
        return self._row(key)[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        with self._lock:
            return self._database.execute("DELETE FROM counts").rowcount

    def clear(self, key: str) -> None:
        with self._lock:
            self._database.execute("DELETE FROM counts WHERE key = ?", (key,))

    def _row(self, key: str) -> tuple[int, float]:
        now = time.time()
        with self._lock:
            rows = self._database.execute("SELECT count, ends FROM counts WHERE key = ? AND ends > ?", (key, now))
            found: tuple[int, float] | None = rows.fetchone()
        return found or (0, now)


def parse_rate(text: str) -> limits.RateLimitItem:
    """`600` (a minute), `600/minute`, `10/second`. Raises `ConfigError`."""
    try:
        return limits.parse(f"{text}/minute" if text.isdecimal() else text)
    except ValueError as error:
        raise ConfigError(f"RATE is {text!r}; it must be such as 600, 600/minute or 10/second.") from error


def limit(app: Flask, rate: str, path: Path | None) -> None:
    """Let each key, or each address, ask what is under /v1 only so often. To be called after `guard`."""
    allowed, limiter = parse_rate(rate), FixedWindowRateLimiter(Counts(path))

    @app.before_request
    def check() -> None:
        if not request.path.startswith("/v1/") or request.method == "OPTIONS":
            return
        who = request.environ.get(HOLDER) or request.remote_addr or ""
        try:
            passes, stats = limiter.hit(allowed, who), limiter.get_window_stats(allowed, who)
        except sqlite3.Error as error:  # a full disk stops no shop
            _log.error("Requests cannot be counted, so no limit holds: %s", error)
            return
        seconds = max(1, round(stats.reset_time - time.time()))
        g.rate = {"Limit": allowed.amount, "Remaining": stats.remaining, "Reset": seconds}
        if not passes:
            raise TooManyRequests(
                f"More than {allowed} were asked. Ask again in {seconds} seconds.", retry_after=seconds
            )

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers.extend({f"RateLimit-{name}": str(value) for name, value in g.get("rate", {}).items()})
        return response
