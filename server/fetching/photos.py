"""Photos by URL, from the hosts that the operator allows, and never from an address that is not on the public internet.

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
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import BoundedSemaphore, Timer
from typing import TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from shared.errors import BadPicture, BadQuestion, Busy
from shared.images.decode import MAX_BYTES
from shared.refusals import Kind

Address: TypeAlias = IPv4Address | IPv6Address

_AT_ONCE = 8
_REDIRECTS = 3
# A picture is compressed already; a body that is compressed all the same is not unpacked, and so no picture.
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "image-similarity"}
_PORTS = {"http": 80, "https": 443}
# Beside what `ipaddress` knows: protocol assignments, and relays to IPv4 of old.
_NOT_PUBLIC_4 = [IPv4Network(block) for block in ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3")]
# Only these are given out, and what embeds an IPv4 address (6to4, Teredo) or is kept for documentation is not meant.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in block for block in _NOT_PUBLIC_4)
    return address.is_global and address in _PUBLIC_6 and not any(address in block for block in _NOT_PUBLIC_6)


def resolved(host: str) -> list[Address]:
    """The addresses of a name, or of an address in any notation. Raises `OSError`, `ValueError`."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


@dataclass(frozen=True, slots=True)
class Safety:
    """How addresses are found and judged, and which ports may be asked. Not an option: tests serve on loopback."""

    resolve: Callable[[str], Iterable[Address]] = resolved
    admits: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset(_PORTS.values())
    seconds: float = 10.0


class Fetch:
    """Called with a URL, has the bytes of the photo there. `hosts`: with commas between. For many threads."""

    def __init__(self, hosts: str = "", safety: Safety = Safety()) -> None:
        self._hosts = frozenset(_plain(host) for host in hosts.split(",") if host.strip())
        self._safety = safety
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._names = ThreadPoolExecutor(_AT_ONCE, "resolve")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def __call__(self, url: str) -> bytes:
        """Raises `BadQuestion` where photos are not fetched, `BadPicture` where this one cannot be, `Busy`."""
        if not self._hosts:
            raise BadQuestion('Photos by URL are not enabled on this server. Send {"image_base64": ".."}.')
        if not self._turns.acquire(blocking=False):
            raise Busy(f"{_AT_ONCE} photos are being fetched already. Send it again in some seconds.")
        end = time.monotonic() + self._safety.seconds
        try:
            return self._fetched(url, end)
        except ssl.SSLError as error:
            raise BadPicture(Kind.TLS_ERROR, f"The photo's host cannot be trusted: {error}.") from error
        except (OSError, HTTPException, HTTPError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= end:
                late = f"The photo's host did not send it within {self._safety.seconds:g} seconds."
                raise BadPicture(Kind.TIMEOUT, late) from error
            why = f"The photo cannot be fetched: {type(error).__name__}."
            raise BadPicture(Kind.CONNECTION_FAILED, why) from error
        finally:
            self._turns.release()

    def _fetched(self, url: str, end: float) -> bytes:
        for _ in range(_REDIRECTS + 1):
            parts = self._checked(url)
            found = self._asked(parts, self._address(parts, end), end)
            if isinstance(found, bytes):
                return found
            url, before = urljoin(url, found), parts.scheme
            if before == "https" and not url.startswith("https:"):
                raise BadPicture(Kind.REFUSED_REDIRECT, "The photo's host redirects to where nothing is encrypted.")
        raise BadPicture(Kind.REFUSED_REDIRECT, f"The photo's host redirects more than {_REDIRECTS} times.")

    def _checked(self, url: str) -> SplitResult:
        """The parts of a URL that may be asked, as far as it can be told from its text."""
        if not url.isascii() or not url.isprintable() or set(url) & set(' \\<>"^`{|}'):
            raise BadPicture(Kind.BAD_URL, "image_url has characters that a URL cannot have. Encode them with %.")
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise BadPicture(Kind.BAD_URL, f"image_url is not a URL: {error}.") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise BadPicture(Kind.BAD_URL, "image_url must be an http or https URL.")
        if "@" in parts.netloc:
            raise BadPicture(Kind.BAD_URL, "image_url must have no user and password.")
        if port not in self._safety.ports:
            raise BadPicture(Kind.BAD_URL, f"image_url has the port {port}; photos are fetched from 80 and 443.")
        if _plain(parts.hostname) not in self._hosts:
            raise BadPicture(Kind.REFUSED_ADDRESS, f"Photos are not fetched from {parts.hostname!r:.80} (PHOTO_HOSTS).")
        return parts

    def _address(self, parts: SplitResult, end: float) -> Address:
        """The address to connect to."""
        looking = self._names.submit(self._safety.resolve, str(parts.hostname))
        try:
            addresses = list(looking.result(end - time.monotonic()))
        except ValueError as error:
            raise BadPicture(Kind.BAD_URL, f"image_url has a host that is none: {parts.hostname!r:.80}.") from error
        public = [address for address in addresses if self._safety.admits(address)]
        if not public:
            why = f"{parts.hostname!r:.80} is not on the public internet, so no photo is fetched from it."
            raise BadPicture(Kind.REFUSED_ADDRESS, why)
        return public[0]

    def _asked(self, parts: SplitResult, address: Address, end: float) -> bytes | str:
        """The body, or where it is instead."""
        port, host = parts.port or _PORTS[parts.scheme], str(parts.hostname)
        left = max(0.01, end - time.monotonic())
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                str(address), port, timeout=left, ssl_context=self._tls, server_hostname=host
            )
        else:
            connection = HTTPConnection(str(address), port, timeout=left)
        # A timeout is of one read, and a host may send a byte at a time.
        cut = Timer(left, _hang_up, (connection,))
        cut.start()
        try:
            target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            connection.request("GET", target, headers={"Host": parts.netloc, **_HEADERS}, preload_content=False)
            with connection.getresponse() as answer:
                found = _read(answer)
        finally:
            cut.cancel()
            connection.close()
        if time.monotonic() >= end:  # what was read ends where it was cut
            raise TimeoutError
        return found


def _read(answer: BaseHTTPResponse) -> bytes | str:
    if 300 <= answer.status < 400 and answer.headers.get("Location"):
        return str(answer.headers["Location"])
    if answer.status != 200:
        kind = Kind.GONE if answer.status in (404, 410) else Kind.HTTP_ERROR
        raise BadPicture(kind, f"The photo's host answers {answer.status}.")
    body = bytearray()
    for part in answer.stream(64 * 1024, decode_content=False):
        body += part
        if len(body) > MAX_BYTES:
            raise BadPicture(Kind.TOO_LARGE, f"The photo has more than {MAX_BYTES:,} bytes.")
    return bytes(body)


def _hang_up(connection: HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # it may be closed already, or not be open yet
        connection.sock.shutdown(socket.SHUT_RDWR)


def _plain(host: str) -> str:
    """A host as it is compared."""
    return host.strip().lower().rstrip(".")
