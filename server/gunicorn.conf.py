"""How gunicorn serves. TensorFlow must not be loaded before the fork, so the application is not preloaded."""

import socket
import struct
from typing import Any

from server.config import ServerConfig
from server.doorbell import Doorbell

worker_class = "gthread"
threads = 8
limit_request_line = 0  # product ids may be long
keepalive = 5
timeout = 60
graceful_timeout = 30
control_socket_disable = True  # it would open a socket in the home folder
proc_name = "image-similarity"


def when_ready(server: Any) -> None:
    """SIGHUP looks for new snapshots, and does not restart the workers: they would load their networks again.

    A client that sends nothing for 5 seconds loses its thread. Connections inherit this from their listener.
    """
    server.handle_hup = Doorbell(ServerConfig.from_environment().data).ring
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
