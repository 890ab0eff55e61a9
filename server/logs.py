"""Log lines, for people or for machines (`LOG_FORMAT`), each with the id of the request that it is about."""

import logging
from contextvars import ContextVar
from logging.config import dictConfig
from typing import Any

from gunicorn.glogging import Logger

from server.config import ServerConfig

request_id: ContextVar[str] = ContextVar("request_id", default="-")
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s"
_JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": "%(levelname)s %(name)s %(process)d %(request_id)s %(message)s",
    "rename_fields": {"levelname": "level", "name": "logger"},
    "timestamp": True,
}


def set_up_logs(style: str) -> None:
    """Write what this process logs to its standard error, as `text` or `json`."""
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request": {"()": lambda: _mark}},
            "formatters": {"text": {"format": _TEXT}, "json": _JSON},
            "handlers": {"all": {"class": "logging.StreamHandler", "formatter": style, "filters": ["request"]}},
            "root": {"level": "INFO", "handlers": ["all"]},
            "loggers": {
                "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
                # People want to see what failed, which is told where it fails; machines every request.
                "server.front": {"level": "INFO" if style == "json" else "WARNING"},
            },
        }
    )


def _mark(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


class OneLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines, written as all others are. Its access log stays off: `front` writes of requests."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        set_up_logs(ServerConfig.from_environment().log_format)
