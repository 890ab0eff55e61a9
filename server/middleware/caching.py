"""How answers go out: not again to who has them, compressed where that is worth it, and to pages of which origins."""

from flask import Flask, Response, request
from flask_compress import Compress
from flask_cors import CORS

# What is smaller is there with the first packets anyway, and most answers are.
WORTH_COMPRESSING = 8192
# Caches may keep an answer, but ask each time: when a shop goes back to another snapshot, that shows at once.
CACHING = "no-cache"
_TOLD = ["X-Request-ID", "ETag", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]


def deliver(app: Flask, origins: str | None = None) -> None:
    """Answer 304, compress, and let pages of these origins, comma separated, read the answers."""

    @app.after_request
    def once(response: Response) -> Response:
        tag, _ = response.get_etag()
        if tag and response.status_code == 200 and request.method in ("GET", "HEAD"):
            response.headers.setdefault("Cache-Control", CACHING)
            if request.if_none_match.contains_weak(tag):
                response.status_code = 304
                response.set_data(b"")
                for name in ("Content-Type", "Content-Length", "Content-Encoding"):
                    response.headers.pop(name, None)
        return response

    app.config.update(
        COMPRESS_ALGORITHM=["gzip"],
        COMPRESS_MIN_SIZE=WORTH_COMPRESSING,
        COMPRESS_STREAMS=False,
        COMPRESS_EVALUATE_CONDITIONAL_REQUEST=False,  # `once` does, later
    )
    Compress(app)
    if origins:
        CORS(app, origins=origins.split(","), expose_headers=_TOLD, max_age=600)
