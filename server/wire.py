"""What the workers and the embedding process say to each other: frames of a kind, a name and raw bytes.

    NEED  name empty         body: JSON, fingerprint -> folder of a snapshot     -> STATES, JSON, fingerprint -> state
    EMBED name fingerprint   body: uint8 (n, size, size, 3)
                             -> VECTORS float32 (n, dimension), or NOT_READY, BUSY or FAILED with a sentence

A worker says what it needs several times a second; what nobody has needed for a while is dropped.
"""

import socket
import struct
from dataclasses import dataclass
from enum import Enum

from shared.errors import SimilarityError

_HEAD = struct.Struct("!cHI")
# Some photos of the largest size that a network may take.
_MOST_BYTES = 256 * 1024 * 1024


class Word(Enum):
    """The kinds of frames."""

    NEED = b"N"
    STATES = b"S"
    EMBED = b"E"
    VECTORS = b"V"
    NOT_READY = b"L"
    BUSY = b"B"
    FAILED = b"F"


class WireError(SimilarityError):
    """The other side went away, or says what nobody understands."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    word: Word
    name: str = ""
    body: bytes | bytearray | memoryview = b""


def send(connection: socket.socket, frame: Frame) -> None:
    """Raises `OSError`."""
    name = frame.name.encode()
    connection.sendall(_HEAD.pack(frame.word.value, len(name), len(frame.body)) + name)
    connection.sendall(frame.body)


def receive(connection: socket.socket) -> Frame | None:
    """The next frame, or None where the other side has ended. Raises `WireError`, `OSError`."""
    first = connection.recv(1)
    if not first:
        return None
    word, name_length, length = _HEAD.unpack(first + _exactly(connection, _HEAD.size - 1))
    if length > _MOST_BYTES:
        raise WireError(f"A frame of {length:,} bytes was announced; the limit is {_MOST_BYTES:,}.")
    try:
        return Frame(Word(word), _exactly(connection, name_length).decode(), _exactly(connection, length))
    except ValueError as error:
        raise WireError(f"A frame is not readable: {error}.") from error


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    left = memoryview(data)
    while left:
        got = connection.recv_into(left)
        if not got:
            raise WireError("The connection ended in the middle of a frame.")
        left = left[got:]
    return data
