"""A partition: one department of one domain, the unit that is indexed, shipped and served."""

import re
from dataclasses import dataclass

from shared.errors import ConfigError

# Both parts become path segments of folders, S3 keys and URLs, so they are kept to characters that are safe in all.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """A department of a domain: `Partition("371", "0341")` is ice hockey at decathlon.ca. Ids are text: `0341` keeps
    its zero."""

    department: str
    domain: str

    def __post_init__(self) -> None:
        for name, value in (("department", self.department), ("domain", self.domain)):
            if not _SAFE.fullmatch(value):
                raise ConfigError(f"The {name} {value!r} is not valid: use 1 to 64 letters, digits, '-' or '_'.")

    def __str__(self) -> str:
        return f"{self.department}/{self.domain}"
