"""The state of photo search: whether photos can be searched, and why not if they cannot."""

from dataclasses import dataclass
from enum import StrEnum


class PhotoSearch(StrEnum):
    """The states of photo search."""

    OFF = "off"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PhotoState:
    """The state of photo search with one snapshot. `reason`: a sentence for people, if it failed.

    As text, over HTTP and between workers, it is `off`, `loading`, `ready` or the reason.
    """

    state: PhotoSearch
    reason: str = ""

    @classmethod
    def parse(cls, text: str) -> "PhotoState":
        """Read the text that `str` gives."""
        if text in (PhotoSearch.OFF, PhotoSearch.LOADING, PhotoSearch.READY):
            return cls(PhotoSearch(text))
        return failed(text)

    def __str__(self) -> str:
        return self.reason if self.state is PhotoSearch.FAILED else self.state.value

    @property
    def serves(self) -> bool:
        """True if a server in this state is as it should be: photos are searched, or not offered here."""
        return self.state in (PhotoSearch.READY, PhotoSearch.OFF)


OFF, LOADING, READY = PhotoState(PhotoSearch.OFF), PhotoState(PhotoSearch.LOADING), PhotoState(PhotoSearch.READY)


def failed(reason: str) -> PhotoState:
    """The state of photo search that failed for that reason."""
    return PhotoState(PhotoSearch.FAILED, reason)
