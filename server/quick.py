"""The quick way to the question that is asked most, past Flask: products like a product, with nothing but `k` wanted.

Whatever is not exactly that, or has no answer, goes the long way, which answers the same.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.similar import MOST, TEN, Wanted
from shared.snapshot import Snapshot

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = re.compile("/v1/([^/]+/[^/]+)/products/(.+)/similar", re.DOTALL)
_K = re.compile("k=([0-9]{1,4})")
_only = lru_cache(MOST)(Wanted)


class Quick:
    """A WSGI application before the one that has the answer to every question, and all the errors.

    `ask` answers with JSON for a partition, a product id and what is wanted.
    """

    def __init__(self, app: "WSGIApplication", ask: Callable[[str, str, Wanted], tuple[Snapshot, bytes]]) -> None:
        self._app, self._ask = app, ask

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        found = self._answer(environ) if environ["REQUEST_METHOD"] == "GET" else None
        if found is None:
            return self._app(environ, start_response)
        snapshot, body = found
        length = str(len(body))
        headers = [("ETag", f'"{snapshot.id}"'), ("Content-Type", "application/json"), ("Content-Length", length)]
        start_response("200 OK", headers)
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[Snapshot, bytes] | None:
        path, query = _PATH.fullmatch(environ["PATH_INFO"]), environ.get("QUERY_STRING", "")
        k = _K.fullmatch(query) if query else None
        if not path or (query and not k):
            return None
        try:
            # WSGI hands the path's bytes over as latin-1.
            partition, product_id = (part.encode("latin-1").decode() for part in path.groups())
            return self._ask(partition, product_id, _only(int(k[1])) if k else TEN)
        except Exception:  # the long way fails too, and tells of it
            return None
