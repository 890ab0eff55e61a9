"""An image server on loopback that can misbehave."""

import contextlib
import hashlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Callable


class ImageServer:
    """A CDN on loopback. `answers[path]` is bytes to serve, or a function that takes the request's handler."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                answer = outer.answers.get(self.path, not_found)
                if callable(answer):
                    with contextlib.suppress(OSError):  # the client may give up first
                        answer(self)
                    return None
                tag = f'"{hashlib.md5(answer).hexdigest()}"'
                if self.headers.get("If-None-Match") == tag:
                    return reply(self, 304, b"", ETag=tag)
                outer.bodies[self.path] += 1
                return reply(self, 200, answer, ETag=tag)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Send an answer; `_` in the name of a header stands for `-`."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def not_found(handler: http.server.BaseHTTPRequestHandler) -> None:
    reply(handler, 404, b"no such image")


def html(handler: http.server.BaseHTTPRequestHandler) -> None:
    """A page where a picture should be."""
    reply(handler, 200, b"<!doctype html><html>Please log in</html>", Content_Type="image/jpeg")


def stalled(handler: http.server.BaseHTTPRequestHandler) -> None:
    """An answer whose body does not come."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    time.sleep(30)
