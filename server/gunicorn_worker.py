"""The class of gunicorn's workers: its threaded worker, which shares and closes connections in another way."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_STEP, _MOST_STEPS = 0.0001, 5  # seconds for each connection that a worker has


class Worker(ThreadWorker):  # type: ignore[misc]
    """A threaded worker. `accept` and `finish_request` run in the thread that accepts connections, so any wait in them
    stops all."""

    def init_process(self) -> None:
        self._closing = ThreadPoolExecutor(8, "close")
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Let a worker with fewer connections come first, else the one that wakes first may take all of them."""
        time.sleep(min(self.nr_conns, _MOST_STEPS) * _STEP)
        super().accept(listener)

    def finish_request(self, conn: Any, fs: "Future[Any]") -> None:
        """Close a client's connection beside this thread, where gunicorn 27 waits up to 2 seconds for each."""
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
        else:
            self.nr_conns -= 1
            self._closing.submit(conn.close, graceful=True)
