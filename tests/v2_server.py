"""The protocol on real sockets: HTTP by uvicorn and gRPC on one event loop, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from toolkit.serving.interface import Limits, Models
from toolkit.serving.routing import Router
from toolkit.serving.v2 import grpc_server, http


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    http: str
    grpc: str


class _Quiet(uvicorn.Server):
    """Leaves the signals of the process to others: it runs in a thread."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def serving(models: Models, observer: Any, limits: Limits | None = None, **terms: Any) -> Iterator[Addresses]:
    """Serve models until the block ends.

    Args:
        models: what is served.
        observer: is told, and keeps statistics if it has ``of``.
        limits: by default those of the server.
        terms: further arguments of ``grpc_server.serve``.
    """
    limits = limits or Limits()
    statistics = observer if hasattr(observer, "of") else None
    app = Router(http.routes(models, limits, observer, statistics), {http.ROOT: http.no_such})
    server = _Quiet(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    started = threading.Event()
    found: list[Addresses] = []
    failed: list[BaseException] = []

    async def run() -> None:
        over_grpc = grpc_server.serve(models, limits, observer, "127.0.0.1:0", statistics=statistics, **terms)
        async with over_grpc:
            serving_http = asyncio.create_task(server.serve())
            while not server.started and not serving_http.done():
                await asyncio.sleep(0.002)
            port = server.servers[0].sockets[0].getsockname()[1]
            found.append(Addresses(f"127.0.0.1:{port}", f"127.0.0.1:{over_grpc.port}"))
            started.set()
            await serving_http

    def run_in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # told to the test
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run_in_thread)
    thread.start()
    try:
        assert started.wait(20)
        assert found, failed
        yield found[0]
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
    assert failed == []
