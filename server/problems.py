"""RFC 9457 problems: the one shape of every error, of routes and of middleware."""

import json

from werkzeug import Response
from werkzeug.exceptions import HTTPException

from server.telemetry.logs import request_id
from server.telemetry.metrics import refused


def problem(status: int, title: str, detail: str, **more: str) -> Response:
    """Build a problem, and count it. The response is a WSGI application too, and Flask takes it as a view's answer."""
    kind = title.lower().replace(" ", "-")
    refused(more.get("kind", kind))
    told = {"title": title, "status": status, "detail": detail, "request_id": request_id.get(), **more}
    body = json.dumps({"type": f"urn:image-similarity:{kind}", **told}, separators=(",", ":"))
    response = Response(body, status, mimetype="application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response


def http_problem(error: HTTPException) -> Response:
    """Build the problem of an HTTP error, with the headers that go with it."""
    response = problem(error.code or 500, error.name, error.description or "")
    response.headers.extend(header for header in error.get_headers() if header[0] != "Content-Type")
    return response
