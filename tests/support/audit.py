"""The entries of an audit log."""

import json
from pathlib import Path
from typing import Any

from shared.audit import NAME


def entries(data: Path) -> list[dict[str, Any]]:
    """All entries below a data folder, those of renamed files too, in no order of the files."""
    return [json.loads(line) for path in data.glob(f"{NAME}*") for line in path.read_bytes().splitlines()]
