"""Configuration of gunicorn. The application is not preloaded: its threads would not survive the fork."""

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from ctypes import addressof, create_string_buffer
from typing import Any

from server.config import ServerConfig, tell_workers
from server.gunicorn_worker import Worker
from server.serving.reload_signal import ReloadSignal
from server.serving.workers import Processes
from server.telemetry.logs import OneLogger

logger_class = OneLogger
worker_class = Worker
threads = 24
limit_request_line = 8190  # the most that gunicorn bounds
sendfile = False  # it would wait for clients
keepalive = 5
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would open a socket in the home folder
proc_name = "image-similarity"

_ATTACH_FILTER = 26  # Linux's SO_ATTACH_FILTER, which Python does not name
# In BPF: load the byte of a TCP header that has the flags; if SYN is set, drop the packet, else take it.
_DROP_SYN = struct.pack("HBBI" * 4, 0x30, 0, 0, 13, 0x45, 0, 1, 2, 6, 0, 0, 0, 6, 0, 0, 0xFFFF_FFFF)
_HANDSHAKE_SECONDS = 0.1


def when_ready(server: Any) -> None:
    """Make SIGHUP look for new snapshots, without a restart of the workers, and SIGTERM reset no connection.

    A client that sends nothing for 5 seconds loses its thread. Connections inherit this from their listener.
    """
    reload_signal = ReloadSignal(ServerConfig.from_environment().data)

    def look_again(*_: object) -> None:
        try:
            reload_signal.ring()
        except OSError as error:  # which would end the server
            server.log.error("Nobody can be told to look for new snapshots: %s", error)

    def stop(number: int, frame: Any) -> None:
        for listener in server.LISTENERS:
            _let_nobody_begin(listener.sock)
        time.sleep(_HANDSHAKE_SECONDS)  # those who have begun to connect end it, and workers take them
        server.signal(number, frame)

    signal.signal(signal.SIGHUP, look_again)  # in place of gunicorn's; each worker sets its own
    signal.signal(signal.SIGTERM, stop)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    server.processes = Processes.begin()
    server.processes.expect(server.num_workers)
    tell_workers(server.processes.folder, server.processes.metrics)


def _let_nobody_begin(listener: socket.socket) -> None:
    """Ignore those who begin to connect from now on. They try again after a second, and then are refused.

    The kernel resets connections that nobody took when a listener is closed, and some come in the last moment. Where
    it has no such filters, a few may be reset.
    """
    instructions = create_string_buffer(_DROP_SYN)
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 4, addressof(instructions)))


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """Tell the workers how many there should be, after SIGTTIN or SIGTTOU."""
    if hasattr(server, "processes"):
        server.processes.expect(new_value)


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counts of a worker that ended, for counts do not fall; but count it no longer as a worker."""
    from prometheus_client.multiprocess import mark_process_dead  # only now does it know where processes count

    mark_process_dead(worker.pid)
    server.processes.ended(worker.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """Remove the shared folder if the master was killed."""
    if os.getppid() != worker.ppid:
        server.processes.end()


def on_exit(server: Any) -> None:
    """Remove the shared folder after the workers have ended."""
    if hasattr(server, "processes"):
        server.processes.end()
