"""Fetch images from a CDN, or from files: concurrent within bounds, patient with a busy server, never with a stalled
one.

An image has `Limits.total` seconds of the network's time over all tries; the waits between tries do not count, and
hold no connection, so one stalled image delays no other.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import TypeAlias
from urllib.request import getproxies

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from yarl import URL

from shared.images.decode import MAX_BYTES
from shared.refusals import Kind, Refusal
from shared.storage.files import path_of

_BUSY = {408, 429, 500, 502, 503, 504}
_REDIRECT = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a download: seconds, counts and bytes."""

    connections: int = 64
    per_host: int = 32
    connect: float = 5.0
    read: float = 10.0
    total: float = 20.0
    tries: int = 4
    redirects: int = 3
    longest_wait: float = 60.0
    bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Validators:
    """The `ETag` and date that a server gave an image, to ask later whether the image changed."""

    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image's bytes."""

    data: bytes
    validators: Validators


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The outcome for an image that is still the one of the validators."""


@dataclass(frozen=True, slots=True)
class _Again:
    """A failure that may pass; `wait` is the seconds that the server asked for."""

    refusal: Refusal
    wait: float = 0.0


Outcome: TypeAlias = Fetched | Unchanged | Refusal


class Downloader:
    """A pool of connections: `async with Downloader() as downloader: outcome = await downloader.fetch(url)`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._all = asyncio.Semaphore(self._limits.connections)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(self._limits.per_host))

    async def __aenter__(self) -> "Downloader":
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect, sock_read=self._limits.read, ceil_threshold=1e9
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the semaphores bound it, and waiting there costs no deadline
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "image-similarity", "Accept": "image/*", "Accept-Encoding": "identity"},
            trust_env=bool(getproxies()),  # where there is no proxy, looking for one costs two threads a request
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch(self, url: str, known: Validators | None = None) -> Outcome:
        """Fetch one image, or learn that it is unchanged. Failures are values: this never raises for a bad server."""
        if url.startswith("file://"):
            return await asyncio.to_thread(_read_file, path_of(url), known, self._limits.bytes)
        try:
            target = URL(url, encoded=True)
            host = target.host
        except ValueError as error:
            return Refusal(Kind.BAD_URL, f"{url} is not a URL: {error}.")
        if not host:
            return Refusal(Kind.BAD_URL, f"{url} names no host.")
        left = self._limits.total

        async def attempt() -> Outcome | _Again:
            nonlocal left
            async with self._hosts[host], self._all:
                clock = asyncio.get_running_loop().time
                started = clock()
                try:
                    async with asyncio.timeout(left):
                        return await self._get(target, known)
                except TimeoutError:
                    return _Again(Refusal(Kind.TIMEOUT, f"No whole answer within {self._limits.total:g} seconds."))
                finally:
                    left -= clock() - started

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda outcome: isinstance(outcome, _Again)),
            stop=lambda state: state.attempt_number >= self._limits.tries or left <= 0,
            wait=self._wait,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        outcome: Outcome | _Again = await retrying(attempt)
        return outcome.refusal if isinstance(outcome, _Again) else outcome

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next try: the server's wish, within reason, or exponential back-off, with jitter so that
        tries spread out."""
        outcome = state.outcome.result() if state.outcome else None
        asked = outcome.wait if isinstance(outcome, _Again) else 0.0
        backoff = random.uniform(0.1, 0.5) * float(2**state.attempt_number)
        return min(asked, self._limits.longest_wait) + backoff if asked > 0 else backoff

    async def _get(self, url: URL, known: Validators | None) -> Outcome | _Again:
        origin = url
        try:
            for _ in range(self._limits.redirects + 1):
                async with self._session.get(url, headers=_conditions(known), allow_redirects=False) as response:
                    if response.status not in _REDIRECT:
                        return await self._outcome(response, known)
                    url = url.join(URL(response.headers.get("Location", "")))
                    if url.host != origin.host or url.scheme not in (origin.scheme, "https"):
                        return Refusal(Kind.REFUSED_REDIRECT, f"The server redirects to {url.scheme}://{url.host}.")
            return Refusal(Kind.REFUSED_REDIRECT, f"The server redirects more than {self._limits.redirects} times.")
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch) as error:
            return Refusal(Kind.TLS_ERROR, f"The server's certificate is refused: {error}")
        except (aiohttp.InvalidURL, ValueError) as error:
            return Refusal(Kind.BAD_URL, f"The URL cannot be fetched: {error}")
        except aiohttp.ServerTimeoutError:
            return _Again(Refusal(Kind.TIMEOUT, f"The server sent nothing for {self._limits.read:g} seconds."))
        except (aiohttp.ClientError, OSError) as error:
            return _Again(Refusal(Kind.CONNECTION_FAILED, f"The connection failed: {error or type(error).__name__}"))

    async def _outcome(self, response: aiohttp.ClientResponse, known: Validators | None) -> Outcome | _Again:
        status = response.status
        if status == 304 and known:
            return Unchanged()
        if status == 200:
            body = bytearray()
            async for part in response.content.iter_chunked(64 * 1024):
                body += part
                if len(body) > self._limits.bytes:
                    return Refusal(Kind.TOO_LARGE, f"The image has more than {self._limits.bytes:,} bytes.")
            headers = response.headers
            return Fetched(bytes(body), Validators(headers.get("ETag", ""), headers.get("Last-Modified", "")))
        if status in (404, 410):
            return Refusal(Kind.GONE, f"The server answers {status}: the image is not there.")
        refusal = Refusal(Kind.HTTP_ERROR, f"The server answers {status}.")
        return _Again(refusal, _retry_after(response.headers.get("Retry-After", ""))) if status in _BUSY else refusal


def _conditions(known: Validators | None) -> dict[str, str]:
    headers = {}
    if known and known.etag:
        headers["If-None-Match"] = known.etag
    if known and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    return headers


def _retry_after(text: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """Seconds to wait from a `Retry-After` header, which holds seconds or a date; 0 where it says nothing usable."""
    try:
        return (
            max(0.0, float(text)) if text.strip().isdigit() else (parsedate_to_datetime(text) - now()).total_seconds()
        )
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _read_file(path: Path, known: Validators | None, most: int) -> Outcome:
    try:
        state = path.stat()
        validators = Validators(f"{state.st_mtime_ns}-{state.st_size}", "")
        if validators == known:
            return Unchanged()
        if state.st_size > most:
            return Refusal(Kind.TOO_LARGE, f"The file has {state.st_size:,} bytes; the limit is {most:,}.")
        return Fetched(path.read_bytes(), validators)
    except FileNotFoundError:
        return Refusal(Kind.GONE, f"There is no file {path}.")
    except OSError as error:
        return Refusal(Kind.CONNECTION_FAILED, f"The file {path} cannot be read: {error.strerror}.")
