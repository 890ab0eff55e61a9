"""What only an administrator may ask: look for new snapshots now."""

from flask import Response
from flask_openapi3 import OpenAPI, Tag

from server.doorbell import Doorbell
from server.gate import require

_TAGS = [Tag(name="admin", description="With an admin's key only.")]


def add_admin(app: OpenAPI, doorbell: Doorbell) -> None:
    """Add `POST /admin/reload`."""

    @app.post("/admin/reload", tags=_TAGS)
    @require("admin")
    def reload() -> Response:
        """Look for new snapshots now"""
        doorbell.ring()
        return Response('{"status":"looking"}', 202, mimetype="application/json")
