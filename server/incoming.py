"""The bytes that a client has sent so far, and whether they are a whole request.

Nothing is checked here: gunicorn's parser reads what is whole, and refuses what is no request.
"""

import re
from enum import Enum

MOST_HEAD, MOST_LINE = 64 * 1024, 8190
MOST_CHUNKS = 100_000  # each takes the parser some 5 microseconds
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)


class State(Enum):
    """The part of a request that is there, or the reason why it is refused."""

    HEAD = "not all of its head"
    BODY = "its head, and not all of its body"
    WHOLE = "all of it"
    TOO_LONG = "a request line that is longer than gunicorn's limit"
    TOO_LARGE = "a body in chunks that has no end"
    TOO_MANY = "a body in very many chunks"


class Incoming:
    """The bytes of a connection's next request. `most` bytes of a body are waited for: what announces more is whole
    with its head, for the application refuses it unread."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.expects, self.length = False, 0
        self._most, self._looked, self._needed = most, 0, -1
        self._chunked, self._lines, self._counted = False, 0, 0

    def add(self, data: bytes) -> None:
        """Take what was received. Empty lines before a request do not count."""
        self.data += data if self.data else data.lstrip(b"\r\n")

    def state(self) -> State:
        """Look at what is new."""
        if self._needed < 0:
            if len(self.data) > MOST_LINE and self.data.find(b"\r\n", 0, MOST_LINE + 2) < 0:
                return State.TOO_LONG
            end = self.data.find(_END, self._looked)
            self._looked = max(0, len(self.data) - len(_END))
            if end < 0:
                return State.WHOLE if len(self.data) > MOST_HEAD else State.HEAD
            self._read_head(end + len(_END))
        if self._chunked:
            if len(self.data) > 2 * self._most:
                return State.TOO_LARGE
            self._lines += self.data.count(b"\r\n", max(0, self._counted - 1))
            self._counted = len(self.data)
            if self._lines > 2 * MOST_CHUNKS:  # a line for the size of each, and one for what it holds
                return State.TOO_MANY
            return State.WHOLE if self.data.endswith(_END) and len(self.data) > self._needed else State.BODY
        return State.WHOLE if len(self.data) >= self._needed else State.BODY

    def _read_head(self, end: int) -> None:
        head = bytes(self.data[:end])
        lengths = _LENGTH.findall(head)
        self._needed = end
        self._chunked = not lengths and bool(_CHUNKED.search(head))
        self.length = int(lengths[0]) if len(lengths) == 1 else 0
        if self.length > self._most:
            # Its body is never read, so the connection must not wait for it.
            first = self.data.find(b"\r\n") + 2
            self.data[first:first] = b"Connection: close\r\n"
        else:
            self._needed += self.length
        self.expects = bool(_EXPECTS.search(head))
