"""The health check that is common to all gRPC servers, which Kubernetes and load balancers ask for.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Its messages are one field each, so they are written
and compared as bytes, instead of a further package for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc

SERVICE: Final = "grpc.health.v1.Health"
SERVING: Final = b"\x08\x01"
NOT_SERVING: Final = b"\x08\x02"


def health_handler(ready: Callable[[], bool], *services: str) -> grpc.GenericRpcHandler:
    """Return the handler of ``Check``.

    Args:
        ready: whether requests are taken.
        services: what is served, by name; the server as a whole has the empty one.
    """
    known = {b"", b"\n\x00", *(b"\n" + bytes([len(name)]) + name.encode() for name in services)}

    async def check(request: bytes, context: Any) -> bytes:
        if request not in known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no service of this name here.")
        return SERVING if ready() else NOT_SERVING

    return grpc.method_handlers_generic_handler(SERVICE, {"Check": grpc.unary_unary_rpc_method_handler(check)})
