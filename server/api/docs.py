"""The API's contract: `/openapi.json`, generated from the routes, and `/docs` to read and try it."""

import json
from importlib.resources import files
from pathlib import Path

from flask import Response, send_from_directory
from flask_openapi3 import OpenAPI

_WEB = Path(__file__).parent.with_name("web")
_SWAGGER = Path(str(files("flask_openapi3_swagger"))) / "templates" / "swagger"
# Swagger UI sets styles and shows its icons from data.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


def add_docs(app: OpenAPI) -> None:
    """Add the routes."""

    @app.route("/openapi.json")
    def contract() -> Response:
        document = {**app.api_doc, "security": [{}, {"key": []}]}  # with a key or without
        return Response(json.dumps(document), mimetype="application/json")

    @app.route("/docs")
    def docs() -> Response:
        page = send_from_directory(_WEB, "docs.html")
        page.headers["Content-Security-Policy"] = f"{_POLICY}; base-uri 'none'; frame-ancestors 'none'"
        return page

    @app.route("/docs/docs.js")
    def script() -> Response:
        return send_from_directory(_WEB, "docs.js")

    @app.route("/docs/<path:name>")
    def swagger(name: str) -> Response:
        return send_from_directory(_SWAGGER, name, max_age=86_400)
