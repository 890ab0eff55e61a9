"""Fetch an image by URL, under a policy: the hosts that may be asked, and the limits of an answer.

A name is resolved once, its addresses are checked, and the connection goes to one that was checked, so what a name
resolves to a moment later does not matter. Every redirect is checked anew.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import BoundedSemaphore, Timer
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as SilenceError
from urllib3.util import make_headers

from shared.errors import BadPicture, Busy
from shared.images.decode import MAX_BYTES
from shared.refusals import Kind

Address: TypeAlias = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}
_AT_ONCE = 8
# A picture is compressed already; a body that is compressed all the same is not unpacked, and so no picture.
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "image-similarity"}


def resolved(host: str) -> list[Address]:
    """The addresses of a name, or of an address in any notation. Raises `OSError`, `ValueError`."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Policy:
    """The hosts that a fetcher may ask, and the limits of an answer.

    `thing` is what errors call the image. `check` raises `BadPicture` for a URL that may not be asked, `addresses` for
    a host without an address that may be. `seconds` is the time in all, `silence` that between two parts of an answer,
    `size` the most bytes. `proxies`: whether a proxy that the environment names is asked instead.
    """

    thing: str = "image"
    check: Callable[[SplitResult], None] = lambda _: None
    addresses: Callable[[str], Iterable[Address]] = resolved
    seconds: float = 10.0
    silence: float = 10.0
    redirects: int = 3
    size: int = MAX_BYTES
    proxies: bool = False


class Fetcher:
    """Fetch images by HTTP and HTTPS. Safe to use from many threads."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._host = f"The {policy.thing}'s host"
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._names = ThreadPoolExecutor(_AT_ONCE, "resolve")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def fetch(self, url: str) -> bytes:
        """The bytes of the image. Raises `BadPicture` if it cannot be fetched, `Busy`."""
        thing, policy = self._policy.thing, self._policy
        if not self._turns.acquire(blocking=False):
            raise Busy(f"{_AT_ONCE} {thing}s are being fetched already. Send it again in some seconds.")
        end = time.monotonic() + policy.seconds
        try:
            return self._follow(url, end)
        except ssl.SSLError as error:
            raise BadPicture(Kind.TLS_ERROR, f"{self._host} cannot be trusted: {error}.") from error
        except (OSError, HTTPException, HTTPError) as error:
            over = time.monotonic() >= end
            if over or _is_silence(error):
                late = f"{self._host} did not send it within {policy.seconds if over else policy.silence:g} seconds."
                raise BadPicture(Kind.TIMEOUT, late) from error
            why = f"The {thing} cannot be fetched: {type(error).__name__}."
            raise BadPicture(Kind.CONNECTION_FAILED, why) from error
        finally:
            self._turns.release()

    def _follow(self, url: str, end: float) -> bytes:
        """The image at the end of the redirects."""
        for _ in range(self._policy.redirects + 1):
            parts = self._parts(url)
            found = self._ask(parts, end)
            if isinstance(found, bytes):
                return found
            try:
                url = urljoin(url, found)
            except ValueError as error:
                raise BadPicture(
                    Kind.REFUSED_REDIRECT, f"{self._host} redirects to what is no URL: {error}."
                ) from error
            if parts.scheme == "https" and not url.startswith("https:"):
                raise BadPicture(Kind.REFUSED_REDIRECT, f"{self._host} redirects to where nothing is encrypted.")
        most = f"more than {self._policy.redirects} times" if self._policy.redirects else "to another place"
        raise BadPicture(Kind.REFUSED_REDIRECT, f"{self._host} redirects {most}, which is not followed.")

    def _parts(self, url: str) -> SplitResult:
        """The parts of a URL that may be asked, as far as its text tells."""
        name = f"The {self._policy.thing}'s URL"
        if not url.isascii() or not url.isprintable() or set(url) & set(' \\<>"^`{|}'):
            raise BadPicture(Kind.BAD_URL, f"{name} has characters that a URL cannot have. Encode them with %.")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise BadPicture(Kind.BAD_URL, f"{name} is not a URL: {error}.") from error
        if parts.scheme not in PORTS or not parts.hostname:
            raise BadPicture(Kind.BAD_URL, f"{name} must be an http or https URL.")
        if "@" in parts.netloc:
            raise BadPicture(Kind.BAD_URL, f"{name} must have no user and password.")
        self._policy.check(parts)
        return parts

    def _ask(self, parts: SplitResult, end: float) -> bytes | str:
        """The body, or the URL that it redirects to, from the first address that can be connected to."""
        proxy = _proxy(parts) if self._policy.proxies else None
        asked = proxy or parts
        looking = self._names.submit(resolved if proxy else self._policy.addresses, str(asked.hostname))
        try:
            addresses = list(looking.result(end - time.monotonic()))
        except ValueError as error:
            why = f"The {self._policy.thing}'s URL has a host that is none: {asked.hostname!r:.80}."
            raise BadPicture(Kind.BAD_URL, why) from error
        for number, address in enumerate(addresses, 1):
            try:
                return self._ask_address(address, parts, proxy, end)
            except NewConnectionError:
                if number == len(addresses):
                    raise
        raise ConnectionError(f"{asked.hostname!r:.80} has no address")

    def _ask_address(self, address: Address, parts: SplitResult, proxy: SplitResult | None, end: float) -> bytes | str:
        left = max(0.01, end - time.monotonic())
        connection = self._connection(address, parts, proxy, min(left, self._policy.silence))
        # A timeout is of one read, and a host may send a byte at a time.
        cut = Timer(left, _hang_up, (connection,))
        cut.start()
        try:
            whole = proxy and parts.scheme == "http"
            target = parts._replace(fragment="") if whole else parts._replace(scheme="", netloc="", fragment="")
            headers = {"Host": parts.netloc, **_HEADERS, **(_credentials(proxy) if proxy and whole else {})}
            connection.request("GET", target.geturl() or "/", headers=headers, preload_content=False)
            with connection.getresponse() as answer:
                found = self._read(answer)
        finally:
            cut.cancel()
            connection.close()
        if time.monotonic() >= end:  # what was read ends where it was cut
            raise TimeoutError
        return found

    def _connection(
        self, address: Address, parts: SplitResult, proxy: SplitResult | None, silence: float
    ) -> HTTPConnection:
        """A connection to that address, of the host or of the proxy, not open yet."""
        host, own = str(parts.hostname), parts.port or PORTS[parts.scheme]
        port = (proxy.port or PORTS["http"]) if proxy else own
        if parts.scheme == "http":
            return HTTPConnection(str(address), port, timeout=silence)
        connection = HTTPSConnection(str(address), port, timeout=silence, ssl_context=self._tls, server_hostname=host)
        if proxy:
            connection.set_tunnel(host, own, _credentials(proxy))
        return connection

    def _read(self, answer: BaseHTTPResponse) -> bytes | str:
        if 300 <= answer.status < 400 and answer.headers.get("Location"):
            return str(answer.headers["Location"])
        if answer.status != 200:
            kind = Kind.GONE if answer.status in (404, 410) else Kind.HTTP_ERROR
            raise BadPicture(kind, f"{self._host} answers {answer.status}.")
        body = bytearray()
        for part in answer.stream(64 * 1024, decode_content=False):
            body += part
            if len(body) > self._policy.size:
                raise BadPicture(Kind.TOO_LARGE, f"The {self._policy.thing} has more than {self._policy.size:,} bytes.")
        return bytes(body)


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for this URL."""
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return found if found.hostname else None


def _credentials(proxy: SplitResult) -> dict[str, str]:
    user, at, _ = proxy.netloc.rpartition("@")
    return make_headers(proxy_basic_auth=unquote(user)) if at else {}


def _is_silence(error: Exception) -> bool:
    """Tell whether a host let too much time pass; a refused connection is an urllib3 timeout only by descent."""
    return isinstance(error, TimeoutError | SilenceError) and not isinstance(error, NewConnectionError)


def _hang_up(connection: HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # it may be closed already, or not be open yet
        connection.sock.shutdown(socket.SHUT_RDWR)
