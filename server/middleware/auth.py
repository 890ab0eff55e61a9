"""Authentication: check the key that the route requires, before a body is read or a parameter checked.

Where there is no file of keys, what requires `read` is open. Where there is no key at all, there are no admin routes.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, NotFound, Unauthorized

from server.middleware.api_keys import Keys, Role
from server.problems import http_problem
from server.telemetry.environ import ACTOR, HOLDER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Auth:
    """WSGI middleware that checks keys. `role_of` tells which role a request requires."""

    def __init__(self, app: "WSGIApplication", keys: Keys, role_of: "Callable[[WSGIEnvironment], Role | None]") -> None:
        self._app, self._keys, self._role_of = app, keys, role_of

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            self._check(environ, self._role_of(environ))
        except HTTPException as error:
            return http_problem(error)(environ, start_response)
        return self._app(environ, start_response)

    def _check(self, environ: "WSGIEnvironment", role: Role | None) -> None:
        # A browser asks with OPTIONS, before it shows a key, whether it may.
        if role is None or environ["REQUEST_METHOD"] == "OPTIONS" or (role is Role.READ and self._keys.path is None):
            return
        if not self._keys:
            raise NotFound
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # WSGI hands headers over as latin-1.
        key = self._keys.holder(given.strip().encode("latin-1", "replace")) if scheme.lower() == "bearer" else None
        if key is None:
            why = "wrong, or has expired" if scheme else "missing"
            raise Unauthorized(
                f"The key is {why}. Send it as 'Authorization: Bearer <key>'.",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "image-similarity"}),
            )
        if role is Role.ADMIN and key.role is not Role.ADMIN:
            raise Forbidden(f"The key of {key.name} may read only. Use one of the role admin.")
        environ[HOLDER] = key.name
        if role is Role.ADMIN:  # one from the options may be weak, and its id would help to guess it
            environ[ACTOR] = {"key": key.name} | ({"key_id": key.id} if key.created else {})
