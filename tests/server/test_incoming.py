"""The moment at which a request is whole: heads in pieces, bodies of a length or in chunks, and what has no end."""

import pytest

from server.incoming import MOST_CHUNKS, MOST_HEAD, MOST_LINE, Incoming, State

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"


def states(*pieces: bytes) -> list[State]:
    incoming, found = Incoming(100), []
    for piece in pieces:
        incoming.add(piece)
        found.append(incoming.state())
    return found


def test_a_request_without_a_body_is_whole_with_its_head() -> None:
    assert states(HEAD, b"\r", b"\n") == [State.HEAD, State.HEAD, State.WHOLE]
    assert states(b"\r\n\r\n", b"\r\n", HEAD, b"\r\n") == [State.HEAD] * 3 + [State.WHOLE]


@pytest.mark.parametrize("split", range(0, 60, 7))
def test_a_body_has_its_length_however_it_is_cut(split: int) -> None:
    request = HEAD + b"content-LENGTH:  5 \r\n\r\n12345"
    before, after = states(request[:split], request[split:])
    missing = len(request) - split
    assert before is (State.HEAD if missing > 5 else State.BODY if missing > 0 else State.WHOLE)
    assert after is State.WHOLE
    assert states(request[:-1])[0] is State.BODY
    assert states(request + b"GET / HT")[0] is State.WHOLE


def test_chunks_end_with_an_empty_one() -> None:
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert states(request, b"5\r\n12345\r\n", b"0\r\n\r\n") == [State.BODY, State.BODY, State.WHOLE]
    assert states(request + b"1\r\n1\r\n" * 40)[0] is State.TOO_LARGE


def test_a_body_that_nobody_will_read_is_not_waited_for() -> None:
    incoming = Incoming(100)
    incoming.add(HEAD + b"Content-Length: 101\r\n\r\n")
    assert incoming.state() is State.WHOLE
    assert b"\r\nConnection: close\r\n" in incoming.data


def test_a_chunk_that_looks_like_the_end_ends_nothing() -> None:
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert states(request + b"6\r\n0\r\n\r\n", b"x\r\n", b"0\r\n\r\n") == [State.BODY, State.BODY, State.WHOLE]
    assert states(request + b"4;a=b\r\n\r\n\r\n\r\n", b"0\r\nX: y\r\n", b"\r\n") == [*[State.BODY] * 2, State.WHOLE]
    assert states(request + b"0\r\n\r\nGET / HT") == [State.WHOLE]
    assert states(request + b"no size\r\n") == [State.WHOLE]


@pytest.mark.parametrize("sent", [b"ffffffff\r\n", b"1" * (MOST_LINE + 1), b"0\r\n" + b"X: y\r\n" * (MOST_HEAD // 5)])
def test_chunks_without_an_end_are_refused(sent: bytes) -> None:
    incoming = Incoming(10_000_000)
    incoming.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + sent)
    assert incoming.state() is State.TOO_LARGE


def test_very_many_chunks_are_refused() -> None:
    incoming = Incoming(10_000_000)
    incoming.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n1\r\n" * MOST_CHUNKS)
    assert incoming.state() is State.BODY
    incoming.add(b"1\r\n1\r\n")
    assert incoming.state() is State.TOO_LARGE


def test_zeros_before_a_length_do_not_count() -> None:
    assert states(HEAD + b"Content-Length: %b5\r\n\r\n" % (b"0" * 30), b"12345") == [State.BODY, State.WHOLE]


def test_a_head_without_an_end_is_refused() -> None:
    assert states(HEAD + b"X: y\r\n" * (MOST_HEAD // 6 - 20), b"X: y\r\n" * 20) == [State.HEAD, State.HEAD_TOO_LONG]


def test_a_request_line_without_an_end_is_refused() -> None:
    assert states(b"G" * MOST_LINE, b"G") == [State.HEAD, State.TOO_LONG]
    assert states(b"G" * MOST_LINE + b"\r\n") == [State.HEAD]


def test_what_is_ambiguous_goes_to_the_parser_with_its_head() -> None:
    two = HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"
    both = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert states(two)[0] is State.WHOLE
    assert states(both, b"12345") == [State.BODY, State.WHOLE]
