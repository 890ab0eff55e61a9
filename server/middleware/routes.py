"""Find a request's route before Flask does: its rule, for metrics, and the role that it requires.

Roles are declared at the routes: `@require("admin")`, nearest to the view of all decorators. A route below /v1 that
declares none requires `read`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from server.middleware.api_keys import Role
from server.middleware.fast_path import RULE, is_fast
from server.telemetry.environ import ROUTE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_View = TypeVar("_View", bound=Callable[..., Any])


def require(role: Literal["read", "admin"]) -> Callable[[_View], _View]:
    """Declare that a view requires a key of this role."""

    def declare(view: _View) -> _View:
        view.role = Role(role)  # type: ignore[attr-defined]
        return view

    return declare


class Routes:
    """The routes of an application: its URL map, and its views by endpoint."""

    def __init__(self, rules: Map, views: Mapping[str, Callable[..., Any]]) -> None:
        self._rules, self._views = rules.bind(""), views

    def role_of(self, environ: "WSGIEnvironment") -> Role | None:
        """The role that a request requires, None if it is open. Notes the route in `environ`."""
        if is_fast(environ):  # matching takes longer
            environ[ROUTE] = "GET", RULE
            return Role.READ
        # As Flask reads paths: bytes come as latin-1, and the number of slashes in front does not matter.
        path, method = environ["PATH_INFO"].encode("latin-1").decode(errors="replace"), environ["REQUEST_METHOD"]
        below_v1 = Role.READ if path.lstrip("/").startswith("v1/") else None
        try:
            rule, _ = self._rules.match(path, method, return_rule=True)
        except HTTPException:
            return below_v1
        environ[ROUTE] = method, rule.rule
        return getattr(self._views[rule.endpoint], "role", below_v1)
