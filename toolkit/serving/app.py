"""The HTTP application: what every part of the server brings to it, put together in one place."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from toolkit.serving import page, predict
from toolkit.serving.answers import JsonResponse, refused
from toolkit.serving.guard import Gate, Guard
from toolkit.serving.interface import Limits, Models, Observer
from toolkit.serving.keys import ApiKeys
from toolkit.serving.logs import RequestIds
from toolkit.serving.metrics import Metrics
from toolkit.serving.page import PageOptions
from toolkit.serving.refusals import ModelFailed, Refusal
from toolkit.serving.statistics import Statistics
from toolkit.serving.v2 import http


@dataclass(frozen=True)
class Parts:
    """What the application is made of.

    Attributes:
        models: that are served.
        limits: of requests.
        gate: whether requests are taken.
        observer: told of answers.
        metrics: that are shown.
        statistics: that are shown.
        page: what the page may do; None where there is none.
        keys: that are known; None where nobody needs one.
    """

    models: Models
    limits: Limits
    gate: Gate
    observer: Observer
    metrics: Metrics
    statistics: Statistics
    page: PageOptions | None = None
    keys: ApiKeys | None = None


def build_app(parts: Parts) -> ASGIApp:
    """Return the ASGI application."""
    routes: list[BaseRoute] = [
        *predict.routes(parts.models, parts.limits, parts.observer, needs_key=parts.keys is not None),
        *http.routes(parts.models, parts.limits, parts.observer, parts.statistics),
        *parts.metrics.routes(),
        *(page.routes(parts.models, parts.page) if parts.page is not None else ()),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_route,
            Exception: _fault,
        },
    )
    public = page.public_paths() if parts.page is not None else frozenset[str]()
    return RequestIds(Guard(app, parts.limits, parts.gate, parts.keys, public))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {
        404: "there is nothing at this address.",
        405: f"{request.method} is not done here.",
    }.get(error.status_code, error.detail)
    return JsonResponse({"error": said}, status_code=error.status_code, headers=dict(error.headers or {}))


async def _fault(_: Request, error: Exception) -> Response:
    return refused(ModelFailed("the server has a fault: its log says more."))
