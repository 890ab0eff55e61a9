"""The route of administrators: look for new snapshots now."""

from typing import Literal

from flask import Response
from flask_openapi3 import OpenAPI, Tag
from pydantic import BaseModel

from server.api.responses import model_answer
from server.middleware.routes import require
from server.serving.reload_signal import ReloadSignal

_TAGS = [Tag(name="admin", description="With an admin's key only.")]


class Looking(BaseModel):
    status: Literal["looking"] = "looking"


def add_admin(app: OpenAPI, reload_signal: ReloadSignal) -> None:
    """Add `POST /admin/reload`."""

    @app.post("/admin/reload", tags=_TAGS, responses={202: Looking})
    @require("admin")
    def reload() -> Response:
        """Look for new snapshots now"""
        reload_signal.ring()
        return model_answer(Looking(), 202)
