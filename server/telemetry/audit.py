"""Audit entries of a server. A change that was made stays made where its entry cannot be written."""

import logging
from pathlib import Path

from server.telemetry.metrics import not_audited
from shared.audit import Entry, record

_log = logging.getLogger(__name__)


def note(data: Path, entry: Entry) -> None:
    """Record an entry, or log it as an error and count it: a full disk stops no shop."""
    try:
        record(data, entry)
    except OSError as error:
        not_audited()
        _log.error("%s", error)
