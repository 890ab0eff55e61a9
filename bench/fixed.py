"""The least that Flask can do: a route that returns bytes it has. The ceiling for a lookup over HTTP."""

from pathlib import Path

from flask import Flask, Response


def application(path: str) -> Flask:
    """What gunicorn runs: the file's bytes at `/fixed`."""
    app = Flask(__name__, static_folder=None)
    body = Path(path).read_bytes()

    @app.get("/fixed")
    def fixed() -> Response:
        return Response(body, mimetype="application/json")

    return app
