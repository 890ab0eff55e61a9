"""The bytes that a client has sent so far, and whether they are a whole request.

Nothing is checked here: gunicorn's parser reads what is whole, and refuses what is no request.
"""

import re
from enum import Enum

MOST_HEAD, MOST_LINE, MOST_CHUNKS = 64 * 1024, 8190, 50_000
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*+([0-9]*)[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-f]+)(?:[ \t]*;|\Z)", re.IGNORECASE)  # the beginning of a line that has a chunk's size
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)


class State(Enum):
    """The part of a request that is there, or the reason why it is refused."""

    HEAD = "not all of its head"
    BODY = "its head, and not all of its body"
    WHOLE = "all of it"
    TOO_LONG = "a request line that is longer than gunicorn's limit"
    HEAD_TOO_LONG = "a head that has no end"
    TOO_LARGE = "a body in chunks that has no end, or very many"


class Incoming:
    """The bytes of a connection's next request. `most` bytes of a body are waited for: what announces more is whole
    with its head, for the application refuses it unread."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.expects, self.length = False, 0
        self._most, self._looked, self._needed = most, 0, -1
        self._chunked, self._chunks = False, 0  # the next chunk begins where `_needed` is

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
                return State.HEAD_TOO_LONG if len(self.data) > MOST_HEAD else State.HEAD
            self._read_head(end + len(_END))
        if self._chunked:
            return self._state_of_chunks()
        return State.WHOLE if len(self.data) >= self._needed else State.BODY

    def _read_head(self, end: int) -> None:
        head = bytes(self.data[:end])
        lengths = _LENGTH.findall(head)
        self._needed = end
        self._chunked = not lengths and bool(_CHUNKED.search(head))
        self.length = int(lengths[0][:18] or b"0") if len(lengths) == 1 else 0
        if self.length > self._most:
            # Its body is never read, so the connection must not wait for it.
            first = self.data.find(b"\r\n") + 2
            self.data[first:first] = b"Connection: close\r\n"
        else:
            self._needed += self.length
        self.expects = bool(_EXPECTS.search(head))

    def _state_of_chunks(self) -> State:
        """Go from chunk to chunk, as far as they are there. What is no chunk is whole, for the parser refuses it."""
        while (line := self.data.find(b"\r\n", self._needed)) >= 0:
            found = _CHUNK.match(self.data[self._needed : line])
            if not found:
                return State.WHOLE
            if not (size := int(found[1], 16)):  # the last one, before trailers and an empty line
                if self.data.find(_END, line) >= 0:
                    return State.WHOLE
                return State.TOO_LARGE if len(self.data) - line > MOST_HEAD else State.BODY
            self._needed = line + size + 4
            self._chunks += 1
        large = max(len(self.data), self._needed) > 2 * self._most or self._chunks > MOST_CHUNKS
        return State.TOO_LARGE if large or len(self.data) - self._needed > MOST_LINE else State.BODY
