"""Refusals: a closed list of kinds, and the value that carries one for one item."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of refusal of a catalog row, or a photo."""

    # the row
    MISSING_ID = "missing_id"
    DUPLICATE = "duplicate"
    # the row, by a live change of its product
    DELETED = "deleted"
    REPLACED = "replaced"
    # the fetch
    BAD_URL = "bad_url"
    GONE = "gone"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    CONNECTION_FAILED = "connection_failed"
    TLS_ERROR = "tls_error"
    REFUSED_ADDRESS = "refused_address"
    REFUSED_REDIRECT = "refused_redirect"
    TOO_LARGE = "too_large"
    # the picture
    EMPTY = "empty"
    UNSUPPORTED_FORMAT = "unsupported_format"
    BAD_IMAGE = "bad_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    BAD_CROP = "bad_crop"
    # the vector
    BAD_VECTOR = "bad_vector"


LIVE = frozenset({Kind.DELETED, Kind.REPLACED})


@dataclass(frozen=True, slots=True)
class Refusal:
    """One item's refusal: its kind, and a sentence for people."""

    kind: Kind
    detail: str
