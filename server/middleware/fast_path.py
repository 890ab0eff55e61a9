"""The fast path: answer product -> products with no parameter but `k` past Flask, as it is asked most.

Whatever is not exactly that, or has no answer, goes on to Flask, which answers the same.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from server.middleware.caching import WORTH_COMPRESSING
from shared.search.params import MOST, TEN, SearchParams
from shared.snapshot.view import SnapshotView

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

RULE = "/v1/<department>/<domain>/products/<id:product_id>/similar"
# /v1/products/.. is the route over all partitions.
_PATH = re.compile("/v1/((?!products/)[^/]+/[^/]+)/products/(.+)/similar", re.DOTALL)
_K = re.compile("k=([0-9]{1,4})")
_only = lru_cache(MOST)(SearchParams)


def is_fast(environ: "WSGIEnvironment") -> bool:
    """Tell whether a request is for `RULE`, and so may take the fast path."""
    return environ["REQUEST_METHOD"] == "GET" and _PATH.fullmatch(environ["PATH_INFO"]) is not None


class FastPath:
    """WSGI middleware in front of Flask, which answers all other requests and all errors.

    `ask` answers with JSON for a partition, a product id and what is wanted.
    """

    def __init__(
        self, app: "WSGIApplication", ask: Callable[[str, str, SearchParams], tuple[SnapshotView, bytes]]
    ) -> None:
        self._app, self._ask = app, ask

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        found = self._answer(environ) if environ["REQUEST_METHOD"] == "GET" else None
        if found is None:
            return self._app(environ, start_response)
        snapshot, body = found
        content = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", [("ETag", f'"{snapshot.tag}"'), *content])
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[SnapshotView, bytes] | None:
        path, query = _PATH.fullmatch(environ["PATH_INFO"]), environ.get("QUERY_STRING", "")
        k = _K.fullmatch(query) if query else None
        if not path or (query and not k):
            return None
        try:
            # WSGI hands the path's bytes over as latin-1.
            partition, product_id = (part.encode("latin-1").decode() for part in path.groups())
            answer = self._ask(partition, product_id, _only(int(k[1])) if k else TEN)
            worth = len(answer[1]) >= WORTH_COMPRESSING and "HTTP_ACCEPT_ENCODING" in environ
            return None if worth else answer
        except Exception:  # Flask fails too, and tells of it
            return None
