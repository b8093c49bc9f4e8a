"""The common health check, as bytes on the wire."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from toolkit.serving.v2.grpc_health import SERVICE, health_handler


class RefusedError(Exception):
    pass


class Context:
    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise RefusedError(code)


def check(request: bytes, ready: bool = True) -> Any:
    handler = health_handler(lambda: ready, "inference.GRPCInferenceService")
    method = handler.service(SimpleNamespace(method=f"/{SERVICE}/Check", invocation_metadata=()))
    return asyncio.run(method.unary_unary(request, Context()))


def request_of(service: str) -> bytes:
    return b"\n" + bytes([len(service)]) + service.encode()


@pytest.mark.parametrize("request_", [b"", b"\n\x00", request_of("inference.GRPCInferenceService")])
def test_the_server_and_its_service_are_serving_when_ready(request_: bytes) -> None:
    assert check(request_) == b"\x08\x01"
    assert check(request_, ready=False) == b"\x08\x02"


@pytest.mark.parametrize("request_", [request_of("other"), b"\xff"])
def test_another_service_is_not_found(request_: bytes) -> None:
    with pytest.raises(RefusedError, match="NOT_FOUND"):
        check(request_)
