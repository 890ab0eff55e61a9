"""Clients that are gone: what nobody waits for any more is dropped before it costs more.

Changes of the catalog are not dropped: whoever sent one may not care for the answer.
"""

import logging
import select
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from server.problems import problem
from server.telemetry.environ import ACTOR, CLIENT
from shared.errors import ClientGone

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CLIENT_GONE = 499, "Client gone"  # for the log and the metrics; the status is nginx's
_SIGN_OF_LIFE = b"HTTP/1.1 100 Continue\r\n\r\n"
_log = logging.getLogger(__name__)


class Client:
    """The client of one request, as its socket shows it. For many threads."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        self._socket: socket.socket | None = environ.get("gunicorn.socket")  # none where no server is
        self._can_be_asked = environ["SERVER_PROTOCOL"] != "HTTP/1.0"

    def check(self) -> None:
        """Raise `ClientGone` if the client waits no more.

        A client that has closed its connection and one that only has nothing more to send, and waits, look alike: both
        sent FIN. So such a one, but none that can still send, gets an interim response, which every client of HTTP/1.1
        has to skip. The system of a client that is gone refuses it, from then on the socket says so: a near one's at
        once, a far one's until the next check. One of HTTP/1.0, which knows no interim responses, is taken to wait.
        """
        if self._socket is None or not (seen := _events(self._socket)):
            return
        if not seen & ~select.POLLRDHUP and self._can_be_asked:
            self._can_be_asked = False
            with suppress(OSError):
                self._socket.sendall(_SIGN_OF_LIFE)  # behind what is not sent yet
            seen = _events(self._socket)
        if seen & ~select.POLLRDHUP:  # POLLHUP: both directions are closed; POLLERR: it was reset
            _log.debug("A client is gone, so its request is dropped")
            raise ClientGone("The client has closed its connection.")


class DropGone:
    """WSGI middleware, behind `Auth`, that drops requests whose client went while they waited for a thread."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if ACTOR not in environ:
            environ[CLIENT] = client = Client(environ)
            try:
                client.check()
            except ClientGone as error:
                return problem(*CLIENT_GONE, str(error))(environ, start_response)
        return self._app(environ, start_response)


def _events(client: socket.socket) -> int:
    """The events of a socket by now, of those that tell of its end."""
    if client.fileno() < 0:  # its request has ended
        return select.POLLNVAL
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return sum(event for _, event in poll.poll(0))
