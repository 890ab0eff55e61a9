"""Log lines, for people or for machines (`LOG_FORMAT`), each with the id of its request."""

import logging
from contextvars import ContextVar
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from server.config import ServerConfig

request_id: ContextVar[str] = ContextVar("request_id", default="-")
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s"


def set_up_logs(style: str) -> None:
    """Write this process's logs to its standard error, as `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if style == "json" else logging.Formatter(_TEXT))
    handler.addFilter(_mark)
    root = logging.getLogger()
    # Not dictConfig, which closes the handlers of others: TensorFlow's then closes the stream that it writes to.
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # People want to see what failed, which is told where it fails; machines every request.
    logging.getLogger("server.middleware.request_log").setLevel(logging.INFO if style == "json" else logging.WARNING)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which processors this one is not
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers, gunicorn.propagate = [], True
    gunicorn.setLevel(logging.INFO)


def _json() -> JsonFormatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(process)d %(request_id)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )


def _mark(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


class OneLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines, written as all others are. Its access log stays off: `request_log` writes of requests."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        set_up_logs(ServerConfig.from_environment().log_format)
