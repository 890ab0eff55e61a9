"""What only an administrator may ask, with a key: look for new snapshots now."""

import hmac

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden

from server.doorbell import Doorbell


def add_admin(app: Flask, key: str, doorbell: Doorbell) -> None:
    """Add `POST /admin/reload`, for who sends `Authorization: Bearer <key>`."""

    @app.post("/admin/reload")
    def reload() -> Response:
        # Bytes: the comparison of texts raises on what is not ASCII. WSGI hands headers over as latin-1.
        given = request.headers.get("Authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, b"Bearer " + key.encode()):
            raise Forbidden("The admin key is missing or wrong. Send it as 'Authorization: Bearer <key>'.")
        doorbell.ring()
        return Response('{"status":"looking"}', 202, mimetype="application/json")
