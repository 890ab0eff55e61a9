"""The class of gunicorn's workers: its threaded worker, whose threads never wait for a client.

One thread, gunicorn's loop, receives from all clients and sends what their sockets did not take at once; a request gets
one of the few other threads when all of it is there. So a client that is slow, silent or does not read costs a
connection and some memory, both bounded, and no thread. `tests/server/test_gunicorn_worker.py` fails if gunicorn
changes beneath this.
"""

import errno
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from secrets import token_hex
from typing import Any

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from server.api.photo_body import MAX_BODY
from server.incoming import MOST_CHUNKS, MOST_HEAD, MOST_LINE, Incoming, State
from server.telemetry.logs import request_id

_STEP, _MOST_STEPS = 0.0001, 5  # seconds for each connection that a worker has
_MOST_CONNECTIONS, _OTHER_FILES = 1000, 200
_MOST_HELD = 256 * 1024 * 1024  # bytes of requests that are not whole yet
_MOST_UNSENT = 4 * 1024 * 1024  # bytes of one answer
_MOST_WAITING = 256  # whole requests of a worker
_HEAD_SECONDS, _SEND_SECONDS, _GOODBYE_SECONDS, _STOP_SECONDS = 10.0, 20.0, 2.0, 2.0
_SLOWEST = 50_000  # bytes of a body in a second
_LOOK_SECONDS = 0.5
_BUSY = 503, "Service Unavailable", "Very many requests wait already. Send it again in some seconds."
_LATE = 408, "Request Timeout", "The request did not come in time. Send it faster."
_REFUSED = {
    State.TOO_LONG: (
        414,
        "URI Too Long",
        f"The request line is longer than {MOST_LINE:,} bytes. Send what is long in a body, such as that of a batch.",
    ),
    State.HEAD_TOO_LONG: (
        431,
        "Request Header Fields Too Large",
        f"The headers have more than {MOST_HEAD:,} bytes. Send fewer, or shorter ones.",
    ),
    State.TOO_LARGE: (
        413,
        "Content Too Large",
        f"The body has more than {MAX_BODY:,} bytes, or comes in more than {MOST_CHUNKS:,} chunks.",
    ),
}


class ClientSocket(socket.socket):
    """A client's socket that keeps what is not sent at once, up to a limit, instead of waiting for the client. What was
    `received` ahead is received again, piece by piece: gunicorn's parser copies all that it gets for each chunk."""

    unsent: bytearray
    received: bytearray

    @classmethod
    def of(cls, accepted: socket.socket) -> "ClientSocket":
        """Take over an accepted socket."""
        made = cls(accepted.family, accepted.type, accepted.proto, accepted.detach())
        made.unsent, made.received = bytearray(), bytearray()
        return made

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive what was received ahead, else what comes."""
        if not self.received:
            return super().recv(size, flags)
        piece = bytes(self.received[:size])
        del self.received[:size]
        return piece

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send or keep the data. Where too much is kept, wait until the client reads. Raises `BrokenPipeError` if it
        does not."""
        self.unsent += data
        self.flush()
        end = time.monotonic() + _SEND_SECONDS
        while len(self.unsent) > _MOST_UNSENT:
            with selectors.DefaultSelector() as writable:
                writable.register(self, selectors.EVENT_WRITE)
                if not writable.select(end - time.monotonic()):
                    raise BrokenPipeError(errno.EPIPE, "The client does not read.")
            self.flush()

    def flush(self) -> None:
        """Send what can be sent now. Raises `OSError` if the client is gone."""
        try:
            while self.unsent:
                del self.unsent[: self.send(self.unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass


class Worker(ThreadWorker):  # type: ignore[misc]
    """A threaded worker. All but `handle` runs in one thread, so any wait in it stops all."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max(50, min(_MOST_CONNECTIONS, files - _OTHER_FILES))
        self.worker_connections = sys.maxsize  # it accepts always, and drops the one whose time ends first
        self._deadlines: dict[TConn, float] = {}  # of connections that no thread has
        self._incoming: dict[TConn, Incoming] = {}
        self._held, self._under_way, self._looked = 0, 0, 0.0

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take the connections that are made already when the worker stops, and then let no more be made."""
        stops = not enabled and not self.alive and self._accepting
        super().set_accept_enabled(enabled)
        for listener in self.sockets if stops else ():
            while self._accepted(listener):
                pass
            listener.close()

    def accept(self, listener: Any) -> None:
        """Let a worker with fewer connections come first, else the one that wakes first may take all of them."""
        time.sleep(min(self.nr_conns, _MOST_STEPS) * _STEP)
        self._accepted(listener)

    def _accepted(self, listener: Any) -> bool:
        """Accept a connection; return whether there was one."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._drop_one()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return False
        if self.nr_conns >= self._most:
            self._drop_one()
        self.nr_conns += 1
        conn = TConn(self.cfg, ClientSocket.of(accepted), address, listener.getsockname())
        self._guarded(self._await_request, conn)
        return True

    def enqueue_req(self, conn: TConn) -> None:
        """Give a whole request to a thread, unless very many wait for one."""
        if self._under_way >= _MOST_WAITING:
            self._refuse(conn, *_BUSY)
            return
        self._under_way += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Go on with a connection after a thread has answered a request."""
        self._under_way -= 1
        keep = not fs.cancelled() and fs.exception() is None and fs.result() is True
        self._guarded(self._sent, conn, keep)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections whose time is over; gunicorn's loop calls this whenever it wakes."""
        now = time.monotonic()
        if force or now > self._looked + _LOOK_SECONDS:
            self._looked = now
            for conn, deadline in [*self._deadlines.items()]:
                if force or now > deadline:
                    self._guarded(self._expire, conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self._deadlines:
            if conn not in self._incoming or not self._incoming[conn].data:
                self._deadlines[conn] = min(self._deadlines[conn], deadline)

    def _guarded(self, step: Callable[..., None], conn: TConn, *arguments: Any) -> None:
        """Take a step of a connection; an error costs this connection only, unless there is no memory left."""
        try:
            step(conn, *arguments)
        except OSError:
            self._close(conn)
        except MemoryError:  # it would go on closing connections; the worker in its place has memory again
            self.log.error("There is no memory left. The worker ends, and another takes its place.")
            self._close(conn)
            self.alive = False
        except Exception:
            self.log.exception("A connection is closed for an error")
            self._close(conn)

    def _await_request(self, conn: TConn, read_ahead: bytes = b"") -> None:
        """Receive the next request, which may have begun with what was read ahead."""
        idle = self.cfg.keepalive if self.alive else min(self.cfg.keepalive, _STOP_SECONDS)
        self._incoming[conn] = Incoming(MAX_BODY)
        if read_ahead:
            self._add(conn, read_ahead)
        else:
            self._receive(conn)
        if conn in self._incoming and conn not in self._deadlines:
            begun = bool(self._incoming[conn].data)
            self._watch(conn, selectors.EVENT_READ, self._receive, _HEAD_SECONDS if begun else idle)

    def _receive(self, conn: TConn) -> None:
        try:
            data = conn.sock.recv(256 * 1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if data:
            self._add(conn, data)
        else:
            self._close(conn)

    def _add(self, conn: TConn, data: bytes) -> None:
        incoming, now = self._incoming[conn], time.monotonic()
        if not incoming.data and conn in self._deadlines:
            self._deadlines[conn] = now + _HEAD_SECONDS
        before = len(incoming.data), incoming.length
        incoming.add(data)
        state = incoming.state()
        self._held += len(incoming.data) - before[0]
        if state is State.WHOLE:
            self._forget(conn)
            if conn.parser is None:
                conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.sock.received += incoming.data
            conn.data_ready = True
            self.enqueue_req(conn)
        elif state in _REFUSED:
            self._refuse(conn, *_REFUSED[state])
        elif state is State.BODY:
            if incoming.expects:
                incoming.expects = False
                conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if incoming.length != before[1] and conn in self._deadlines:
                self._deadlines[conn] = now + _HEAD_SECONDS + incoming.length / _SLOWEST
        while self._held > _MOST_HELD:
            self._drop_one()

    def _sent(self, conn: TConn, keep: bool) -> None:
        """Go on when all of an answer is sent: with the next request, or a goodbye."""
        conn.sock.flush()
        if conn.sock.unsent:
            if conn not in self._deadlines:
                self._watch(conn, selectors.EVENT_WRITE, partial(self._sent, keep=keep), _SEND_SECONDS)
            return
        self._forget(conn)
        if keep:
            read_ahead = conn.parser.unreader.take_buffered() + conn.sock.received
            conn.sock.received.clear()
            self._await_request(conn, read_ahead)
            return
        conn.sock.shutdown(socket.SHUT_WR)  # and wait until the client has read it and closes, or for a moment
        self._watch(conn, selectors.EVENT_READ, self._discard, _GOODBYE_SECONDS)

    def _discard(self, conn: TConn) -> None:
        if not conn.sock.recv(256 * 1024, socket.MSG_DONTWAIT):
            self._close(conn)

    def _refuse(self, conn: TConn, status: int, title: str, detail: str) -> None:
        """Answer what no thread will, and close."""
        from server.problems import problem  # prometheus_client must not be imported before it is told where to count

        self._forget(conn)
        request_id.set(token_hex(8))
        answer = problem(status, title, detail)
        headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        conn.sock.sendall(f"HTTP/1.1 {status} {title}\r\n{headers}Connection: close\r\n\r\n".encode() + answer.data)
        self._sent(conn, keep=False)

    def _expire(self, conn: TConn) -> None:
        if conn in self._incoming and self._incoming[conn].data:
            self._refuse(conn, *_LATE)
        else:
            self._close(conn)

    def _drop_one(self) -> None:
        """Close the connection that no thread has and that ends first."""
        if self._deadlines:
            self._close(min(self._deadlines, key=self._deadlines.__getitem__))

    def _watch(self, conn: TConn, event: int, step: Callable[..., None], seconds: float) -> None:
        """Take a step of a connection when its socket is ready, or close it after that time."""
        self._deadlines[conn] = time.monotonic() + seconds
        self.poller.register(conn.sock, event, lambda _: self._guarded(step, conn))

    def _forget(self, conn: TConn) -> None:
        """Wait for a connection no more."""
        if self._deadlines.pop(conn, None) is not None:
            self.poller.unregister(conn.sock)
        if incoming := self._incoming.pop(conn, None):
            self._held -= len(incoming.data)

    def _close(self, conn: TConn) -> None:
        if conn.sock.fileno() < 0:
            return
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()
