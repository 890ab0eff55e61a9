"""Fetch photos by URL: only from hosts that the operator allows, and only from addresses of the public internet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from urllib.parse import SplitResult

from server.fetching.fetcher import PORTS, Address, Fetcher, Policy, resolved
from shared.errors import BadPicture, BadQuestion
from shared.refusals import Kind

# Beside what `ipaddress` knows: protocol assignments, relays to IPv4 of old, and what Azure tells its machines at.
_NOT_PUBLIC_4 = [IPv4Network(block) for block in ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3", "168.63.129.16/32")]
# Only these are given out, and what embeds an IPv4 address (6to4, Teredo) or is kept for documentation is not meant.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in block for block in _NOT_PUBLIC_4)
    return address.is_global and address in _PUBLIC_6 and not any(address in block for block in _NOT_PUBLIC_6)


@dataclass(frozen=True, slots=True)
class Safety:
    """The ways to find and judge addresses, and the ports that may be asked. Not an option: tests serve on loopback."""

    resolve: Callable[[str], Iterable[Address]] = resolved
    admits: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset(PORTS.values())
    seconds: float = 10.0


class Fetch:
    """A function from a URL to the bytes of the photo there. `hosts`: with commas between. For many threads."""

    def __init__(self, hosts: str = "", safety: Safety = Safety()) -> None:
        self._hosts = frozenset(_plain(host) for host in hosts.split(",") if host.strip())
        self._safety = safety
        self._fetcher = Fetcher(Policy("photo", self._check, self._addresses, safety.seconds, safety.seconds))

    def __call__(self, url: str) -> bytes:
        """Fetch the photo. Raises `BadQuestion` if photos are not fetched, `BadPicture` if this one cannot be,
        `Busy`."""
        if not self._hosts:
            raise BadQuestion('Photos by URL are not enabled on this server. Send {"image_base64": ".."}.')
        return self._fetcher.fetch(url)

    def _check(self, parts: SplitResult) -> None:
        port = PORTS[parts.scheme] if parts.port is None else parts.port
        if port not in self._safety.ports:
            raise BadPicture(Kind.BAD_URL, f"The photo's URL has the port {port}; photos are fetched from 80 and 443.")
        if _plain(str(parts.hostname)) not in self._hosts:
            raise BadPicture(Kind.REFUSED_ADDRESS, f"Photos are not fetched from {parts.hostname!r:.80} (PHOTO_HOSTS).")

    def _addresses(self, host: str) -> list[Address]:
        public = [address for address in self._safety.resolve(host) if self._safety.admits(address)]
        if not public:
            why = f"{host!r:.80} is not on the public internet, so no photo is fetched from it."
            raise BadPicture(Kind.REFUSED_ADDRESS, why)
        return public


def _plain(host: str) -> str:
    """A host in the form that is compared."""
    return host.strip().lower().rstrip(".")
