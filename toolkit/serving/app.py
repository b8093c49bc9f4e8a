"""The HTTP application: what every part of the server brings to it, put together in one place."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp

from toolkit.serving import page, predict
from toolkit.serving.guard import Gate, Guard
from toolkit.serving.interface import Limits, Models, Observer
from toolkit.serving.keys import ApiKeys
from toolkit.serving.metrics import Metrics
from toolkit.serving.page import PageOptions
from toolkit.serving.routing import Router
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
    router = Router(
        [
            *predict.routes(parts.models, parts.limits, parts.observer, needs_key=parts.keys is not None),
            *http.routes(parts.models, parts.limits, parts.observer, parts.statistics),
            *parts.metrics.routes(),
            *(page.routes(parts.models, parts.page) if parts.page is not None else ()),
        ],
        {http.ROOT: http.no_such},
    )
    public = page.public_paths() if parts.page is not None else frozenset[str]()
    return Guard(router, parts.limits, parts.gate, parts.keys, public)
