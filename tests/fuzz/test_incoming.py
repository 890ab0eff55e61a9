"""Requests as they come in: whole exactly when all of them is there, and what is whole never makes a thread wait."""

import socket

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import ParseException
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from server.gunicorn_worker import ClientSocket
from server.incoming import Incoming, State
from tests.support.fuzzing import damaged, fuzz

MOST = 4096
NAMES = st.sampled_from(
    [b"Host", b"X", b"Content-Length", b"content-length ", b"Transfer-Encoding", b"Expect", b"Connection"]
)
VALUES = st.sampled_from(
    [b"x", b"0", b"5", b"0005", b"5, 5", b"9" * 30, b"chunked", b"gzip, chunked", b"100-continue", b"close"]
)
TOKENS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"0\r\n\r\n",
    b"4\r\n\r\n\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: %d\r\n" % MOST,
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b" ",
    b"ffffffffffff\r\n",
    b"x" * 9000,
]


@st.composite
def requests(draw: DrawFn) -> bytes:
    """A sound request: a head, and a body of a length or in chunks."""
    head = b"%b /x HTTP/1.1\r\nHost: x\r\n" % draw(st.sampled_from([b"GET", b"POST", b"PUT"]))
    body = draw(st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"x\r\n\r\n" * 9]))
    match draw(st.sampled_from(["none", "length", "chunks"])):
        case "none":
            return head + b"\r\n"
        case "length":
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    sizes, chunks = draw(st.lists(st.integers(1, 20), max_size=4)), b""
    for size in sizes:
        chunk, body = body[:size], body[size:]
        chunks += (
            b"%x%b\r\n%b\r\n" % (len(chunk), draw(st.sampled_from([b"", b";a=b", b" ; a"])), chunk) if chunk else b""
        )
    trailer = draw(st.sampled_from([b"", b"X: y\r\n"]))
    return head + b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (chunks, trailer)


@st.composite
def odd_heads(draw: DrawFn) -> bytes:
    """A request whose headers contradict each other, or are none."""
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    head = b"".join(b"%b:%b%b\r\n" % (name, draw(st.sampled_from([b" ", b"", b"\t"])), value) for name, value in fields)
    return b"POST /x HTTP/1.%d\r\n" % draw(st.integers(0, 1)) + head + b"\r\n" + draw(st.binary(max_size=10))


@st.composite
def pieces(draw: DrawFn) -> list[bytes]:
    """A request, sound or not, as it comes in pieces."""
    data = draw(damaged(requests() | odd_heads(), TOKENS))
    ends = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def left_after(incoming: Incoming) -> bytes:
    """Let gunicorn read a whole request as a thread would, and return what is left behind it. Fails if it would wait
    for more."""
    ours, theirs = socket.socketpair()
    with theirs, ClientSocket.of(ours) as client:
        client.setblocking(False)
        client.received += incoming.data
        parser = get_parser(Config(), client, ("127.0.0.1", 1))
        try:
            body = next(parser).body
            if incoming.length <= MOST:  # else nobody reads it
                body.read()
        except BlockingIOError:
            pytest.fail("a thread would wait")
        except (ParseException, OSError, StopIteration):  # it is no request
            return b""
        return parser.unreader.take_buffered() + bytes(client.received)


def test_a_request_is_whole_when_its_last_byte_is_there() -> None:
    def holds(sent: tuple[bytes, bytes]) -> None:
        request, next_one = sent
        incoming = Incoming(MOST)
        for place in range(len(request)):
            incoming.add(request[place : place + 1])
            assert (incoming.state() is State.WHOLE) == (place == len(request) - 1), place
        together = Incoming(MOST)
        together.add(request + next_one)
        assert together.state() is State.WHOLE
        assert left_after(together) == next_one

    fuzz(st.tuples(requests(), requests()), holds)


def test_a_whole_request_makes_no_thread_wait_however_it_came() -> None:
    def holds(sent: list[bytes]) -> None:
        incoming, state = Incoming(MOST), State.HEAD
        for piece in sent:
            if state in (State.HEAD, State.BODY):
                incoming.add(piece)
                state = incoming.state()
        if state is State.WHOLE:
            left_after(incoming)

    fuzz(pieces(), holds, 300)
