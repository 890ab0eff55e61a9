"""Who may pass: every route under /v1 asks for a key that may read, where there is a file of keys, and a route that is
marked `@require("admin")` for an admin's, always.

It is asked before a body is read or a parameter looked at.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, NotFound, Unauthorized

from server.middleware.api_keys import Keys

HOLDER = "similarity.key"  # in the WSGI environment: the name of the key that was shown
_View = TypeVar("_View", bound=Callable[..., Any])


def require(role: Literal["read", "admin"]) -> Callable[[_View], _View]:
    """Mark a view, nearest to it of all decorators, as one that asks for a key of this role."""

    def mark(view: _View) -> _View:
        view.role = role  # type: ignore[attr-defined]
        return view

    return mark


def guard(app: Flask, keys: Keys) -> None:
    """Let nobody in without the key that the route asks for; admin routes do not exist where there are no keys."""

    @app.before_request
    def check() -> None:
        view = app.view_functions.get(request.endpoint or "")
        role = getattr(view, "role", "read" if request.path.startswith("/v1/") else "")
        # A browser asks with OPTIONS, before it shows a key, whether it may.
        if not role or request.method == "OPTIONS" or (role == "read" and keys.path is None):
            return
        if not keys:
            raise NotFound
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # WSGI hands headers over as latin-1.
        key = keys.holder(given.strip().encode("latin-1", "replace")) if scheme.lower() == "bearer" else None
        if key is None:
            why = "wrong, or has expired" if scheme else "missing"
            raise Unauthorized(
                f"The key is {why}. Send it as 'Authorization: Bearer <key>'.",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "image-similarity"}),
            )
        if role == "admin" != key.role:
            raise Forbidden(f"The key of {key.name} may read only. Use one of the role admin.")
        request.environ[HOLDER] = key.name
