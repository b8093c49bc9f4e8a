"""Who answers a request over HTTP: found by one look at its path, with nothing between the guard and the handler.

Starlette's own router and the layers that it brings for errors took a third of the event loop's time for a small
request; its requests and responses are used as they are.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from toolkit.serving.answers import JsonResponse, refused
from toolkit.serving.refusals import Refusal

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""Returns the answer, or raises a ``Refusal``."""
Nothing: TypeAlias = Callable[[Request, str], str]
"""Given a request that nobody answers, and the methods that are taken at its path (empty for none): one sentence."""

_PARAMETER = re.compile(r"\\\{([a-z]+)\\\}")
"""As ``re.escape`` leaves one."""


@dataclass(frozen=True)
class Route:
    """An address, and who answers there.

    Attributes:
        method: that is taken; where it is GET, HEAD is too.
        path: ``{name}`` in it stands for any one part, which ``Request.path_params`` has by that name.
        answer: is called with the request.
    """

    method: str
    path: str
    answer: Handler


class Router:
    """An ASGI application of routes: the paths without parameters first, then the others in their order.

    A ``Refusal`` that a handler raises is the answer. Whatever else it raises passes.
    """

    def __init__(self, routes: Iterable[Route], below: Mapping[str, Nothing] | None = None) -> None:
        """Put routes together.

        Args:
            routes: all that there are.
            below: what is said where there is nothing, at and below some path, other than everywhere else.
        """
        self._below = dict(below or {})
        self._fixed: dict[str, dict[str, Handler]] = {}
        patterns: dict[str, dict[str, Handler]] = {}
        for route in routes:
            table = patterns if "{" in route.path else self._fixed
            taken = table.setdefault(route.path, {})
            taken[route.method] = route.answer
            if route.method == "GET":
                taken["HEAD"] = route.answer
        self._patterns = [(_pattern(path), taken) for path, taken in patterns.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        taken, scope["path_params"] = self._find(scope["path"])
        answer = taken.get(scope["method"])
        if answer is None:
            response = self._nothing(request, taken)
        else:
            try:
                response = await answer(request)
            except Refusal as refusal:
                response = refused(refusal)
        await response(scope, receive, send)

    def _find(self, path: str) -> tuple[Mapping[str, Handler], dict[str, str]]:
        """Return who answers at a path, by method, and what its parameters are."""
        if (taken := self._fixed.get(path)) is not None:
            return taken, {}
        for pattern, taken in self._patterns:
            if found := pattern.fullmatch(path):
                return taken, found.groupdict()
        return {}, {}

    def _nothing(self, request: Request, taken: Mapping[str, Handler]) -> Response:
        path: str = request.scope["path"]
        say = next((say for place, say in self._below.items() if path == place or path.startswith(f"{place}/")), _said)
        allowed = ", ".join(sorted(taken))
        if not taken:
            return JsonResponse({"error": say(request, allowed)}, 404)
        return JsonResponse({"error": say(request, allowed)}, 405, {"allow": allowed})


def _said(request: Request, allowed: str) -> str:
    return f"{request.method} is not done here." if allowed else "there is nothing at this address."


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(path)))
