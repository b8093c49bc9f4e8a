"""The protocol over HTTP, as routes.

Tensors in the binary form stay a view of the body until the engine reads them.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from toolkit.serving.answers import JsonResponse
from toolkit.serving.interface import Limits, Models, Observer
from toolkit.serving.refusals import BadRequest, NotReady, TooLarge
from toolkit.serving.routing import Route
from toolkit.serving.v2 import information
from toolkit.serving.v2.contract import shown
from toolkit.serving.v2.json_messages import parse_object, parse_request, render_response
from toolkit.serving.v2.messages import InferRequest
from toolkit.serving.v2.service import Asked, KeepsStatistics, Service, answer

ROOT: Final = "/v2"
HEADER_LENGTH: Final = "inference-header-content-length"
_LARGE_BYTES: Final = 2**18
"""Of JSON, above which it is parsed in a thread, so that others are answered in between."""
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}

_Handler: TypeAlias = Callable[[Service, Request], Awaitable[Response]]


def routes(
    models: Models, limits: Limits, observer: Observer, statistics: KeepsStatistics | None = None
) -> list[Route]:
    """Return the routes of the protocol: ``/v2`` and everything below it.

    Who may ask, how large a body may be, how long it may take to come, what becomes of a ``Refusal``, and what happens
    when a client hangs up, is the same for all routes of a server, and none of these here.

    Args:
        models: what is served.
        limits: what a request may cost, once its body is here.
        observer: is told of every request for inference.
        statistics: what the statistics extension is answered from.
    """
    service = Service(models, limits, observer, statistics)
    return [Route(method, path, functools.partial(handler, service)) for method, path, handler in _TABLE]


def no_such(request: Request, allowed: str) -> str:
    """Return what is said of a request that is none of the protocol: see ``toolkit.serving.routing.Nothing``."""
    what = f"{request.method} {shown(request.scope['path'])}"
    return f"{what} is not taken here: {allowed} is." if allowed else f"{what} is no request of the protocol."


async def _infer(service: Service, request: Request) -> Response:
    async def arrive() -> InferRequest:
        length = _header_length(request)
        body = await _body(request, service.limits)
        if (len(body) if length is None else length) > _LARGE_BYTES:
            return await asyncio.to_thread(parse_request, body, length)
        return parse_request(body, length)

    asked = Asked(request.path_params["name"], request.path_params.get("version"), "http")
    body, header_length = render_response(await answer(service, asked, arrive))
    if header_length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={HEADER_LENGTH: str(header_length)}, media_type="application/octet-stream")


async def _live(service: Service, request: Request) -> Response:
    return JsonResponse({"live": True})


async def _ready(service: Service, request: Request) -> Response:
    ready = service.models.ready
    return JsonResponse({"ready": ready}, 200 if ready else NotReady.http)


async def _server_metadata(service: Service, request: Request) -> Response:
    return JsonResponse(information.server_metadata(service))


async def _model_metadata(service: Service, request: Request) -> Response:
    return JsonResponse(information.model_metadata(service, *_model(request)))


async def _model_ready(service: Service, request: Request) -> Response:
    model = service.models.get(*_model(request))
    return JsonResponse({"name": model.name, "ready": True})


async def _model_configuration(service: Service, request: Request) -> Response:
    return JsonResponse(information.model_configuration(service, *_model(request)))


async def _statistics(service: Service, request: Request) -> Response:
    parameters = request.path_params
    return JsonResponse(information.statistics(service, parameters.get("name"), parameters.get("version")))


async def _index(service: Service, request: Request) -> Response:
    body = await _body(request, service.limits)
    ready = parse_object(body).get("ready", False) if body else False
    if not isinstance(ready, bool):
        raise BadRequest(f"'ready' is {shown(ready)}; it is true, for models that are ready only, or false.")
    return JsonResponse(information.repository_index(service, ready))


async def _model_control(service: Service, request: Request) -> Response:
    information.refuse_model_control()


_TABLE: Final[tuple[tuple[str, str, _Handler], ...]] = (
    *(
        (method, f"{ROOT}/models/{{name}}{version}{path}", handler)
        for method, path, handler in (
            ("POST", "/infer", _infer),
            ("GET", "", _model_metadata),
            ("GET", "/ready", _model_ready),
            ("GET", "/config", _model_configuration),
            ("GET", "/stats", _statistics),
        )
        for version in ("", "/versions/{version}")
    ),
    ("GET", ROOT, _server_metadata),
    ("GET", f"{ROOT}/", _server_metadata),
    ("GET", f"{ROOT}/health/live", _live),
    ("GET", f"{ROOT}/health/ready", _ready),
    ("POST", f"{ROOT}/repository/index", _index),
    ("POST", f"{ROOT}/repository/models/{{name}}/load", _model_control),
    ("POST", f"{ROOT}/repository/models/{{name}}/unload", _model_control),
    ("GET", f"{ROOT}/models/stats", _statistics),
)


def _model(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise BadRequest(f"Inference-Header-Content-Length is {shown(given)}; it is the bytes of the JSON, a number.")
    return int(given)


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request as it was before somebody compressed it.

    Raises:
        TooLarge: it has more bytes than the server takes once it is decompressed.
        BadRequest: its compression is not known, or not what it has; or the client hung up, and reads nothing of this.
    """
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise BadRequest("the connection was closed before the whole request was here.") from error
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in _WINDOW_BITS:
        raise BadRequest(f"the Content-Encoding {shown(encoding)} is not known; gzip and deflate are.")
    return await asyncio.to_thread(_decompressed, body, encoding, limits.body_bytes)


def _decompressed(body: bytes, encoding: str, most: int) -> bytes:
    engine = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = engine.decompress(body, most + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not what its Content-Encoding says, {encoding}: {error}.") from error
    if len(content) > most:
        raise TooLarge(f"the request has more than {most} bytes once it is decompressed, the most that is taken here.")
    if not engine.eof or engine.unused_data:
        raise BadRequest(f"the body is not one whole stream of {encoding}, which its Content-Encoding says.")
    return content
