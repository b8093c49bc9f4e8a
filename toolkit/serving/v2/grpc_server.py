"""The protocol over gRPC, on an event loop that it may share with HTTP.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import grpc
from tritonclient.grpc import service_pb2 as pb

from toolkit.errors import ToolkitError
from toolkit.printable import printable
from toolkit.serving.guard import Gate
from toolkit.serving.interface import Limits, Models, Observer
from toolkit.serving.logs import REQUEST_ID_HEADER, request_id
from toolkit.serving.refusals import FAULT, ModelFailed, NotReady, Refusal, Unauthorized
from toolkit.serving.v2 import information
from toolkit.serving.v2.grpc_health import health_handler
from toolkit.serving.v2.grpc_messages import message_of, parse_message, parse_request, response_message
from toolkit.serving.v2.messages import InferRequest
from toolkit.serving.v2.service import Asked, KeepsStatistics, Service, answer

SERVICE: Final = "inference.GRPCInferenceService"
_logger = logging.getLogger(__name__)
_BESIDE_TENSORS_BYTES: Final = 2**16
"""Of a message, beside its tensors: names, shapes, parameters."""
_LAST_REFUSALS_SECONDS: Final = 0.5
"""For so long at most, calls that still come are told that the server ends."""
_SILENCE_SECONDS: Final = 0.05
"""Without a call, after which none is expected any more."""

_Handler: TypeAlias = Callable[[Service, Any], Awaitable[Any]]
Authorize: TypeAlias = Callable[[Mapping[str, Any]], Unauthorized | None]
"""Given the metadata of a call, by names in small letters: None, or why it may not ask."""


def serve(  # noqa: PLR0913 - what a server has, each by its name
    models: Models,
    limits: Limits,
    observer: Observer,
    address: str,
    *,
    gate: Gate | None = None,
    authorize: Authorize | None = None,
    statistics: KeepsStatistics | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> GrpcServer:
    """Return a server of the protocol, which takes requests from ``start()`` or ``async with`` on.

    Args:
        models: what is served.
        limits: what a request may cost.
        observer: is told of every request for inference.
        address: ``HOST:PORT``; port 0 for any that is free.
        gate: what all requests to the process pass; by default one of its own.
        authorize: says who may ask (see ``Authorize``); without it everybody may.
        statistics: what the statistics extension is answered from.
        credentials: for TLS; without them the server does not encrypt.
    """
    service = Service(models, limits, observer, statistics)
    return GrpcServer(service, address, Terms(gate or Gate(limits), authorize), credentials)


@dataclass(frozen=True)
class Terms:
    """Under which terms requests are taken.

    Attributes:
        gate: whether they are taken, and how many bytes of them are held.
        authorize: who may ask; None where everybody may. Whether the server lives and is ready may be asked by all.
    """

    gate: Gate
    authorize: Authorize | None

    @contextmanager
    def entered(self, metadata: Mapping[str, Any], size: int) -> Iterator[None]:
        """Let a request in for the block.

        Args:
            metadata: of the request.
            size: its bytes.

        Raises:
            NotReady: no request is taken any more.
            Unauthorized: whoever sent this one may not ask.
            Overloaded: too many bytes of requests are held.
        """
        if not self.gate.open:
            raise NotReady("this server is ending.", 1.0)
        if self.authorize is not None and (refusal := self.authorize(metadata)) is not None:
            raise refusal
        task = self.gate.enter()
        try:
            self.gate.hold(size)
            try:
                yield
            finally:
                self.gate.hold(-size)
        finally:
            self.gate.leave(task)


class GrpcServer:
    """A server of the protocol over gRPC.

    Attributes:
        port: on which it takes requests; 0 before it was started.
    """

    def __init__(
        self, service: Service, address: str, terms: Terms, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._service = service
        self._address = address
        self._terms = terms
        self._credentials = credentials
        self._server: Any = None
        self._calls = 0
        self.port = 0

    async def start(self) -> None:
        """Take requests.

        Raises:
            ToolkitError: the address cannot be used.
        """
        most = self._service.limits.body_bytes + _BESIDE_TENSORS_BYTES
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two servers on one port would each get a share of the requests
            ]
        )
        handlers = {name: self._rpc(name, handler) for name, handler in _HANDLERS.items()}
        handlers |= {"ServerLive": _handler(self._live), "ServerReady": _handler(self._is_ready)}
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                health_handler(lambda: self._ready, SERVICE),
            )
        )
        try:
            _require_usable(self._address)
            if self._credentials is None:
                self.port = server.add_insecure_port(self._address)
            else:
                self.port = server.add_secure_port(self._address, self._credentials)
        except (OSError, RuntimeError) as error:
            raise ToolkitError(
                f"gRPC cannot be served on {printable(self._address)}: another program has the port, or this machine "
                "has no such address. Give another one."
            ) from error
        self._server = server
        await server.start()

    async def stop(self, seconds: float | None = None) -> None:
        """Close the gate, and end when what was taken is answered; a second time does nothing.

        Args:
            seconds: how long that may take; by default ``Limits.drain_seconds``.
        """
        if self._server is None:
            return
        seconds = self._service.limits.drain_seconds if seconds is None else seconds
        begun = asyncio.get_running_loop().time()
        self._terms.gate.open = False
        await self._terms.gate.empty(seconds)
        await self._refuse_the_last()
        await self._server.stop(max(0.0, begun + seconds - asyncio.get_running_loop().time()))
        self._server = None

    async def _refuse_the_last(self) -> None:
        """Wait until no more calls come: grpc cancels, without a word, those that it holds when it stops."""
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun + _LAST_REFUSALS_SECONDS:
            calls = self._calls
            await asyncio.sleep(_SILENCE_SECONDS)
            if calls == self._calls:
                return

    @property
    def _ready(self) -> bool:
        return self._service.models.ready and self._terms.gate.open

    async def _live(self, content: bytes, context: Any) -> bytes:
        return _written(pb.ServerLiveResponse(live=True))

    async def _is_ready(self, content: bytes, context: Any) -> bytes:
        return _written(pb.ServerReadyResponse(ready=self._ready))

    def _rpc(self, name: str, handler: _Handler) -> grpc.RpcMethodHandler:
        """Return the handler of a method, which no exception leaves: grpc would tell the client of it."""
        kind = getattr(pb, f"{name}Request")

        async def call(content: bytes, context: Any) -> bytes:
            self._calls += 1
            metadata = dict(context.invocation_metadata())
            with request_id(metadata.get(REQUEST_ID_HEADER)) as used:
                trailing: tuple[tuple[str, str], ...] = ((REQUEST_ID_HEADER, used),)
                context.set_trailing_metadata(trailing)
                try:
                    with self._terms.entered(metadata, len(content)):
                        return _written(await handler(self._service, parse_message(kind, content)))
                except Refusal as error:
                    refusal = error
                except Exception:
                    _logger.exception("%s failed by an error of the server's own", name)
                    refusal = ModelFailed(FAULT)
                await context.abort(grpc.StatusCode[refusal.grpc], str(refusal), (*trailing, *_retry(refusal)))
                raise AssertionError("abort raises")

        return _handler(call)

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stop it."""
        await self.stop()


async def _model_ready(service: Service, request: Any) -> Any:
    try:
        service.models.get(request.name, request.version or None)
    except NotReady:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=True)


async def _server_metadata(service: Service, request: Any) -> Any:
    return message_of(pb.ServerMetadataResponse, information.server_metadata(service))


async def _model_metadata(service: Service, request: Any) -> Any:
    known = information.model_metadata(service, request.name, request.version or None)
    return message_of(pb.ModelMetadataResponse, known)


async def _model_configuration(service: Service, request: Any) -> Any:
    known = information.model_configuration(service, request.name, request.version or None)
    return message_of(pb.ModelConfigResponse, {"config": known})


async def _statistics(service: Service, request: Any) -> Any:
    known = information.statistics(service, request.name or None, request.version or None)
    return message_of(pb.ModelStatisticsResponse, known)


async def _index(service: Service, request: Any) -> Any:
    known = information.repository_index(service, request.ready)
    return message_of(pb.RepositoryIndexResponse, {"models": known})


async def _model_control(service: Service, request: Any) -> Any:
    information.refuse_model_control()


async def _infer(service: Service, request: Any) -> Any:
    async def arrive() -> InferRequest:
        return parse_request(request)

    response = await answer(service, Asked(request.model_name, request.model_version or None, "grpc"), arrive)
    return response_message(response, raw=bool(request.raw_input_contents))


_HANDLERS: Final[dict[str, _Handler]] = {
    "ServerMetadata": _server_metadata,
    "ModelReady": _model_ready,
    "ModelMetadata": _model_metadata,
    "ModelConfig": _model_configuration,
    "ModelStatistics": _statistics,
    "ModelInfer": _infer,
    "RepositoryIndex": _index,
    "RepositoryModelLoad": _model_control,
    "RepositoryModelUnload": _model_control,
}
"""Beside ServerLive and ServerReady, which anybody may ask; gRPC itself answers others with UNIMPLEMENTED."""


def _require_usable(address: str) -> None:
    """Listen on an address for a moment: where grpc cannot, it writes lines of its own to standard error.

    Raises:
        OSError: nobody can.
    """
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, place = found[0]
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        if os.name == "posix":
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(place)
        tried.listen()


def _handler(call: Callable[[bytes, Any], Awaitable[bytes]]) -> grpc.RpcMethodHandler:
    """Return a handler whose messages grpc neither parses nor writes: what it cannot parse, it would log as a bug."""
    return grpc.unary_unary_rpc_method_handler(call)


def _written(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content


def _retry(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Return the metadata that say when to come back, for people and for the retries that clients have built in.

    https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
    """
    if refusal.retry_after is None:
        return ()
    seconds = max(0.0, refusal.retry_after)
    return (
        ("retry-after", str(max(1, math.ceil(seconds)))),
        ("grpc-retry-pushback-ms", str(math.ceil(seconds * 1000))),
    )
