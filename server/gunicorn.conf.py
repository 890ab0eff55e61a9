"""Configuration of gunicorn. The application is not preloaded: its threads would not survive the fork."""

import os
import signal
import socket
import struct
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


def when_ready(server: Any) -> None:
    """Make SIGHUP look for new snapshots, without a restart of the workers.

    A client that sends nothing for 5 seconds loses its thread. Connections inherit this from their listener.
    """
    reload_signal = ReloadSignal(ServerConfig.from_environment().data)

    def look_again(*_: object) -> None:
        try:
            reload_signal.ring()
        except OSError as error:  # which would end the server
            server.log.error("Nobody can be told to look for new snapshots: %s", error)

    signal.signal(signal.SIGHUP, look_again)  # in place of gunicorn's; each worker sets its own
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    server.processes = Processes.begin()
    server.processes.expect(server.num_workers)
    tell_workers(server.processes.folder, server.processes.metrics)


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
