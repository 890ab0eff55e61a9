"""Configuration of gunicorn. The application is not preloaded: its threads would not survive the fork."""

import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn import util

from server.config import ServerConfig, tell_workers
from server.serving.reload_signal import ReloadSignal
from server.serving.workers import Processes
from server.telemetry.logs import OneLogger

_STEP, _MOST_STEPS = 0.0001, 5  # seconds for each connection that a worker has

logger_class = OneLogger
worker_class = "gthread"
threads = 24
limit_request_line = 0  # product ids may be long
keepalive = 5
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would open a socket in the home folder
proc_name = "image-similarity"


def when_ready(server: Any) -> None:
    """SIGHUP looks for new snapshots, and does not restart the workers.

    A client that sends nothing for 5 seconds loses its thread. Connections inherit this from their listener.
    """
    reload_signal = ReloadSignal(ServerConfig.from_environment().data)

    def look_again() -> None:
        try:
            reload_signal.ring()
        except OSError as error:  # which would end the server
            server.log.error("Nobody can be told to look for new snapshots: %s", error)

    server.handle_hup = look_again
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    server.processes = Processes.begin()
    tell_workers(server.processes.folder, server.processes.metrics)


def post_fork(server: Any, worker: Any) -> None:
    """Say goodbye to clients beside the thread that accepts them, where gunicorn 27 waits 2 seconds for each."""
    util.close_graceful = partial(ThreadPoolExecutor(8, "close").submit, util.close_graceful)
    accept = worker.accept

    def accept_in_turn(listener: Any) -> None:
        """Let a worker with fewer connections come first, else the one that wakes first may take all of them."""
        time.sleep(min(worker.nr_conns, _MOST_STEPS) * _STEP)
        accept(listener)

    worker.accept = accept_in_turn


def child_exit(server: Any, worker: Any) -> None:
    """What a worker counted stays, for counts do not fall; but it no longer counts as a worker."""
    from prometheus_client.multiprocess import mark_process_dead  # only now does it know where processes count

    mark_process_dead(worker.pid)
    server.processes.ended(worker.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """Remove the shared folder where the master was killed."""
    if os.getppid() != worker.ppid:
        server.processes.end()


def on_exit(server: Any) -> None:
    """The workers have ended."""
    if hasattr(server, "processes"):
        server.processes.end()
