"""The page at `/`: the files of `web/`, under a Content-Security-Policy that admits nothing else."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from flask import Flask, Response
from werkzeug.exceptions import NotFound

from server.serving.snapshots import Snapshots

_FOLDER = Path(__file__).parent.with_name("web")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:{hosts}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# More hosts than this would make the header too long for some proxies.
_MOST_HOSTS = 50


def add_page(app: Flask, snapshots: Snapshots) -> None:
    """Add `/` and `/web/..`."""
    index = (_FOLDER / "index.html").read_bytes()
    files = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    @app.route("/")
    def page() -> Response:
        answer = _file(index, "text/html; charset=utf-8")
        origins = {origin for snapshot in snapshots.open.values() for origin in snapshot.listing.origins}
        answer.headers["Content-Security-Policy"] = policy(origins)
        return answer

    @app.route("/web/<name>")
    def web(name: str) -> Response:
        if name not in files:
            raise NotFound(f"The page has no file {name!r:.80}.")
        return _file(files[name], _TYPES[Path(name).suffix])


def policy(origins: Iterable[str]) -> str:
    """The Content-Security-Policy: scripts and styles from here only, pictures also from these places."""
    hosts = sorted(origins)
    if len(hosts) > _MOST_HOSTS:
        hosts = ["http:", "https:"]
    return _POLICY.format(hosts="".join(f" {host}" for host in hosts))


def _file(data: bytes, kind: str) -> Response:
    answer = Response(data, content_type=kind)
    answer.set_etag(hashlib.sha256(data).hexdigest()[:16])
    return answer
