"""``toolkit serve``: the server around the models, from its first socket to its last answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvicorn
from starlette.types import ASGIApp

from toolkit.dependencies import is_installed
from toolkit.errors import BundleError, ToolkitError
from toolkit.printable import printable
from toolkit.serving.app import Parts, build_app
from toolkit.serving.guard import Gate
from toolkit.serving.hosted import Opening
from toolkit.serving.interface import Limits, Served
from toolkit.serving.keys import ApiKeys
from toolkit.serving.logs import RequestLog, Style, logging_to
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import FIRST_VERSION, ModelSet, name_of, versions_in
from toolkit.serving.observers import Observers
from toolkit.serving.page import PageOptions
from toolkit.serving.statistics import Statistics
from toolkit.serving.v2 import grpc_server
from toolkit.serving.v2.grpc_server import GrpcServer
from toolkit.serving.watch import watch

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""An idle connection stays so long: longer than the clients and proxies that close theirs after a minute."""
LAST_REFUSALS_SECONDS = 0.5
"""Connections that stay open are told that the server ends, by an answer to their next request, for so long."""
CLOSING_SECONDS = 5
"""For answers that were given to reach whoever asked."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Tls:
    """What the server shows to be who it is: files in PEM."""

    certificate: Path
    key: Path

    def for_grpc(self) -> grpc.ServerCredentials:
        """Return the same for gRPC."""
        return grpc.ssl_server_credentials([(self.key.read_bytes(), self.certificate.read_bytes())])

    def require(self) -> None:
        """Refuse files that cannot be used, before anything else is done.

        Raises:
            ToolkitError: they are no certificate and its key.
        """
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate, self.key, password=_no_password
            )
        except (OSError, ssl.SSLError, ValueError) as error:  # SSLError is an OSError; both are named for readers
            reason = getattr(error, "strerror", None) or str(error)
            raise ToolkitError(
                f"{printable(self.certificate)} and {printable(self.key)} cannot be used for TLS: {printable(reason)}. "
                "Give a certificate with its chain, and its key without a password, both in PEM."
            ) from error


@dataclass(frozen=True)
class ServerOptions:
    """How the server is reached, and what it takes.

    Attributes:
        host: address to listen on.
        port: for HTTP; 0 for any that is free.
        grpc_port: for gRPC; 0 for any that is free, None for none.
        key_file: API keys, one a line; None where nobody needs one.
        tls: None for plain connections.
        page: what the page at ``/`` may do; None for no page.
        log: how standard error is written; None for lines to read on a terminal, and JSON elsewhere.
        shutdown_delay: seconds in which requests are still taken after ready has turned false.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    limits: Limits = field(default_factory=Limits)
    opening: Opening = field(default_factory=Opening)
    key_file: Path | None = None
    tls: Tls | None = None
    page: PageOptions | None = field(default_factory=PageOptions)
    log: Style | None = None
    shutdown_delay: float = 0.0


def serve(served: Sequence[Served], options: ServerOptions, say: Say) -> bool:
    """Serve models until a signal ends it.

    Args:
        served: at least one model.
        options: how.
        say: told where the server is reached, once every model is ready.

    Returns:
        Whether every request that was taken has got its answer.

    Raises:
        ToolkitError: a model cannot be served, an address cannot be listened on, or a file of keys cannot be used.
    """
    names = [name_of(one) for one in served]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ToolkitError(f"two models are called {twice!r}: tell them apart with NAME=BUNDLE.")
    keys = None if options.key_file is None else ApiKeys.read(options.key_file)
    if options.tls is not None:
        options.tls.require()
    style: Style = options.log or ("text" if sys.stderr.isatty() else "json")
    with logging_to(sys.stderr, style), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Server(dict(zip(names, served, strict=True)), options, keys, say).run())


class _Web(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them alone."""
        yield


class _Server:
    """The server while it runs."""

    def __init__(self, served: dict[str, Served], options: ServerOptions, keys: ApiKeys | None, say: Say) -> None:
        self._served = served
        self._options = options
        self._keys = keys
        self._say = say
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._gate = Gate(options.limits)
        metrics, statistics = Metrics(), Statistics()
        observer = Observers(metrics, statistics, RequestLog())
        self._models = metrics.models = ModelSet(options.opening, options.limits, observer)
        self._parts = Parts(self._models, options.limits, self._gate, observer, metrics, statistics, options.page, keys)

    async def run(self) -> bool:
        """Serve until a signal comes; see ``serve``."""
        for name in self._served:
            self._models.expect(name)
        with contextlib.closing(_listen(self._options.host, self._options.port)) as listening:
            web = _Web(_config(build_app(self._parts), self._options))
            with _signals(self._signalled):
                async with self._grpc() as speaks_grpc:
                    task = asyncio.create_task(web.serve(sockets=[listening]))
                    try:
                        await self._until(task, self._loaded(listening, speaks_grpc))
                        if not self._ending.is_set():
                            await self._until(task, self._watched())
                        return await self._drain(web, speaks_grpc)
                    finally:
                        self._gate.abandon()
                        web.should_exit = True
                        web.force_exit = self._hurry.is_set()
                        await task
                        await self._models.close()

    @contextlib.asynccontextmanager
    async def _grpc(self) -> AsyncGenerator[GrpcServer | None, None]:
        """Take requests over gRPC for the block, where that is wanted."""
        port, host = self._options.grpc_port, self._options.host
        if port is None:
            yield None
            return
        parts = self._parts
        async with grpc_server.serve(
            parts.models,
            parts.limits,
            parts.observer,
            _address(host, port),
            gate=self._gate,
            authorize=None if self._keys is None else self._keys.authorize,
            statistics=parts.statistics,
            credentials=None if self._options.tls is None else self._options.tls.for_grpc(),
        ) as server:
            yield server

    async def _watched(self) -> None:
        """Watch the folders of versions, for as long as nobody ends it."""
        async with asyncio.TaskGroup() as watching:
            for name, one in self._served.items():
                if versions_in(one.path) is not None:
                    watching.create_task(watch(self._models, Served(one.path, name)))
            await self._ending.wait()

    async def _loaded(self, listening: socket.socket, speaks_grpc: GrpcServer | None) -> None:
        """Open every model, and say where they are."""
        for name, one in self._served.items():
            versions = versions_in(one.path)
            if versions is None:
                state = await self._models.add(name, FIRST_VERSION, one.path)
                if state.state != "READY":
                    raise BundleError(state.reason)
            for version in reversed(versions or {}):
                state = await self._models.add(name, version, (versions or {})[version])
                if state.state == "READY":
                    break
        scheme = "http" if self._options.tls is None else "https"
        host, port = listening.getsockname()[:2]
        over_grpc = "" if speaks_grpc is None else f", gRPC at {_address(host, speaks_grpc.port)}"
        self._say(f"serving {', '.join(self._served)} at {scheme}://{_address(host, port)}{over_grpc}")

    async def _drain(self, web: _Web, speaks_grpc: GrpcServer | None) -> bool:
        """Answer what was taken, take nothing else."""
        self._models.taking = False
        if self._options.shutdown_delay:
            logger.info("ending: not ready any more, requests are taken for %g s", self._options.shutdown_delay)
            await self._hurried(asyncio.sleep(self._options.shutdown_delay))
        self._gate.open = False
        logger.info("ending: %d requests are being answered, no other is taken", self._gate.inside)
        seconds = self._options.limits.drain_seconds
        answered = bool(await self._hurried(self._emptied(seconds, speaks_grpc)))
        if web.server_state.connections:
            await self._hurried(asyncio.sleep(LAST_REFUSALS_SECONDS))
        if not answered:
            logger.error("ending: some requests were not answered within %g s", seconds)
        return answered

    async def _emptied(self, seconds: float, speaks_grpc: GrpcServer | None) -> bool:
        """Wait until all that was taken is answered; say whether that came about in time."""
        emptied = await self._gate.empty(seconds)  # of both protocols
        if speaks_grpc is not None:
            await speaks_grpc.stop(0)
        return emptied

    async def _until(self, web: asyncio.Task[None], work: Coroutine[Any, Any, object]) -> None:
        """Do something while the web server runs; a signal or its end cuts it short."""
        doing = asyncio.create_task(work)
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({web, doing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if web.done():
                web.result()
                raise ToolkitError("the HTTP server has ended by itself: its log says why.")
            if doing.done():
                doing.result()
        finally:
            for one in (doing, ending):
                one.cancel()

    async def _hurried(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do something that a second signal cuts short."""
        doing = asyncio.create_task(work)
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({doing, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if doing.done():
            return doing.result()
        doing.cancel()
        return None

    def _signalled(self) -> None:
        if self._ending.is_set():
            self._hurry.set()
        self._ending.set()


def _config(app: ASGIApp, options: ServerOptions) -> uvicorn.Config:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    tls = options.tls
    http: Any = "h11"
    if is_installed("httptools"):
        from toolkit.serving.connections import Connection

        http = Connection
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not is_installed("uvloop"):
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ToolkitError: the address cannot be listened on.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # so that :: is every network, as in gRPC
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        # Python writes the address into the text that it gives with the number.
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise ToolkitError(
            f"the server cannot listen on {printable(host)}, port {port}: {printable(reason)}. Give another --host or "
            "--port, or port 0 for any that is free."
        ) from error
    listening.setblocking(False)
    return listening


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _signals(told: Callable[[], None]) -> Generator[None, None, None]:
    """Have SIGTERM and SIGINT call something in the event loop for the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, told)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _no_password() -> str:
    raise ValueError("the key has a password")
