"""Ask over HTTP, and check what comes back: results, problems, metrics."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """Check the one shape of error, and return it."""
    assert answer.status_code == status, answer.data
    assert answer.mimetype == "application/problem+json"
    fields: dict[str, Any] = json.loads(answer.data)
    assert fields["status"] == status
    assert {"type", "title", "detail"} <= fields.keys()
    assert "<" not in fields["title"]
    return fields


def results(answer: TestResponse) -> list[dict[str, Any]]:
    """Check what every answer has, and return its results."""
    assert answer.status_code == 200, answer.data
    assert answer.mimetype == "application/json"
    fields = json.loads(answer.data, parse_constant=pytest.fail)
    assert answer.headers["ETag"] == f'"{fields["snapshot"]}"'
    assert [result["rank"] for result in fields["results"]] == list(range(1, len(fields["results"]) + 1))
    found: list[dict[str, Any]] = fields["results"]
    return found


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer, whatever the status."""
    request = urllib.request.Request(url, body, {"Content-Type": "image/jpeg", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(text: str) -> dict[Sample, float]:
    """The samples of the text of `/metrics`, each a name with its labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def of(found: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    wanted = set(labels.items())
    return sum(value for (known, has), value in found.items() if known == name and wanted <= set(has))
