"""Many connections that each send the next request when the last one was answered, over HTTP/1.1 or gRPC.

It runs in a process of its own (``Client``), takes as little of the processor as Python allows, and says how much that
was: what is sent is made before, and nothing of an answer is read but where it ends.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from benchmarks.harness.errors import BenchmarkError

Protocol: TypeAlias = Literal["http", "grpc"]

HOST = "127.0.0.1"
OK = 200
LOST = 0
"""Instead of a status: the connection ended before the answer was whole."""
REFUSED = -1
"""Instead of a status: no connection could be made, and nothing was sent."""
FAILED = -2
"""Instead of a status: a call of gRPC that ended in anything but OK."""
PATIENCE_SECONDS = 120.0
"""For the answers that are outstanding when a turn ends."""
MOST_CHANNELS = 8
"""Of gRPC, which sends many requests over one."""
INFER = "/inference.GRPCInferenceService/ModelInfer"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSING = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Order:
    """What is to be sent.

    Attributes:
        protocol: how.
        port: where to, on this machine.
        requests: a folder of files, each the bytes of one request (``write_requests``); they are sent in turn.
        connections: requests that are on their way at the same time.
        seconds: for which new requests are sent.
        least: answers that there must be before it ends, however long that takes.
    """

    protocol: Protocol
    port: int
    requests: Path
    connections: int
    seconds: float
    least: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        request: which one of those that are sent in turn.
        status: of HTTP, ``OK`` for a call of gRPC that ended well, or ``LOST``, ``REFUSED`` or ``FAILED``.
        began: when it was sent, in seconds since the first one was.
        ended: when its answer was whole.
        body: of the answer; what was received of it where it was lost.
        head: of an answer over HTTP that is not ``OK``.
    """

    request: int
    status: int
    began: float
    ended: float
    body: bytes
    head: bytes = b""


@dataclass(frozen=True)
class Loaded:
    """What came of an order.

    Attributes:
        answers: in the order in which they came.
        clock: ``time.time()`` when the first request was sent.
        processor_seconds: of the client.
    """

    answers: Sequence[Answer] = field(repr=False)
    clock: float
    processor_seconds: float


def write_requests(folder: Path, requests: Sequence[bytes]) -> Path:
    """Write requests where an order finds them."""
    folder.mkdir(parents=True)
    for index, request in enumerate(requests):
        (folder / f"{index:05}.bin").write_bytes(request)
    return folder


class Client:
    """The process that asks; one order at a time."""

    def __init__(self) -> None:
        # Not a fork: that would begin with the memory and the threads of who measures.
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, order: Order) -> Callable[[], Loaded]:
        """Begin to send, and return what waits for the end."""
        return self._pool.submit(load, order).result

    def load(self, order: Order) -> Loaded:
        """Carry out an order.

        Raises:
            BenchmarkError: an answer over HTTP does not say how long it is, or answers are outstanding for too long.
        """
        return self.begin(order)()


def load(order: Order) -> Loaded:
    """Carry out an order in this process: see ``Client.load``."""
    requests = [path.read_bytes() for path in sorted(order.requests.iterdir())]
    ask = _over_http if order.protocol == "http" else _over_grpc
    return _run(ask(_Turn(order, requests)))


def _run(work: Coroutine[Any, Any, Loaded]) -> Loaded:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class _Turn:
    """What all connections share: which request is next, until when, and what was answered."""

    def __init__(self, order: Order, requests: Sequence[bytes]) -> None:
        self.order = order
        self.requests = requests
        self.answers: list[Answer] = []
        self.sent = 0
        self.fault: Exception | None = None

    def start(self) -> None:
        """Begin to count the time."""
        self.clock = time.time()
        self.used = time.process_time()
        self.began = time.perf_counter()
        self.until = self.began + self.order.seconds

    def next(self) -> int | None:
        """Return which request is to be sent now; None where it is over."""
        if self.fault is not None or (time.perf_counter() >= self.until and len(self.answers) >= self.order.least):
            return None
        self.sent += 1
        return (self.sent - 1) % len(self.requests)

    def add(self, request: int, status: int, sent: float, body: bytes, head: bytes = b"") -> None:
        """Note an answer to what was sent at a time of ``perf_counter``."""
        ended = time.perf_counter() - self.began
        self.answers.append(Answer(request, status, sent - self.began, ended, body, head))

    def loaded(self) -> Loaded:
        """Return what came of it."""
        if self.fault is not None:
            raise self.fault
        return Loaded(self.answers, self.clock, time.process_time() - self.used)


class _Connection(asyncio.Protocol):
    """One connection over HTTP/1.1, which is made again where the server closes it between two requests."""

    def __init__(self, turn: _Turn) -> None:
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._request: int | None = None
        self._sent = 0.0
        self._received = b""
        self._ends_at = 0
        self._again: asyncio.Task[None] | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()

    async def connect(self) -> bool:
        """Make the connection, and return whether that succeeded."""
        try:
            await self._loop.create_connection(lambda: self, HOST, self._turn.order.port)
        except OSError:
            self._turn.add(-1, REFUSED, time.perf_counter(), b"")
            self._finish()
            return False
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = transport  # type: ignore[assignment]  # of a connection, it is one that is written to

    def send(self) -> None:
        """Send the next request, or end."""
        assert self._transport is not None
        request = self._turn.next()
        if request is None:
            self._end()
            return
        if self._transport.is_closing():
            return  # connection_lost makes another
        self._request, self._received, self._ends_at = request, b"", 0
        self._sent = time.perf_counter()
        self._transport.write(self._turn.requests[request])

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is whole."""
        self._received = self._received + data if self._received else data
        if not self._ends_at and (head := self._received.find(_HEAD_END)) >= 0:
            length = _LENGTH.search(self._received, 0, head + 2)
            if length is None:
                self._turn.fault = BenchmarkError("the server sent an answer that does not say how long it is.")
                self._end()
                return
            self._ends_at = head + len(_HEAD_END) + int(length[1])
        if not self._ends_at or len(self._received) < self._ends_at or self._request is None:
            return
        answer, request = self._received, self._request
        head = answer.find(_HEAD_END)
        status = int(answer[9:12])
        self._request = None
        body = answer[head + len(_HEAD_END) : self._ends_at]
        self._turn.add(request, status, self._sent, body, b"" if status == OK else answer[: head + 2])
        if _CLOSING.search(answer, 0, head + 2) is None:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        """Note a request that has no answer, and connect again unless it is over."""
        if self._request is not None:
            self._turn.add(self._request, LOST, self._sent, self._received)
            self._request = None
        if not self.over.done():
            self._again = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        if await self.connect():
            self.send()

    def _end(self) -> None:
        self._request = None
        self._finish()
        if self._transport is not None:
            self._transport.close()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _over_http(turn: _Turn) -> Loaded:
    connections = [_Connection(turn) for _ in range(turn.order.connections)]
    turn.start()  # for those that cannot connect
    connected = await asyncio.gather(*(connection.connect() for connection in connections))
    turn.start()
    for connection, is_open in zip(connections, connected, strict=True):
        if is_open:
            connection.send()
    await _ended([connection.over for connection in connections], turn)
    return turn.loaded()


async def _over_grpc(turn: _Turn) -> Loaded:
    import grpc

    # A pool of its own for each, or all of them would share one connection.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    address = f"{HOST}:{turn.order.port}"
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(min(MOST_CHANNELS, turn.order.connections))]
    # Without serializers: what is sent is bytes already, and so is what comes.
    calls = [channel.unary_unary(INFER) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    turn.start()

    async def ask(call: Any) -> None:
        while (request := turn.next()) is not None:
            sent = time.perf_counter()
            try:
                turn.add(request, OK, sent, await call(turn.requests[request]))
            except grpc.aio.AioRpcError as error:
                turn.add(request, FAILED, sent, str(error.details()).encode(), error.code().name.encode())

    await _ended([asyncio.ensure_future(ask(calls[at % len(calls)])) for at in range(turn.order.connections)], turn)
    loaded = turn.loaded()
    for channel in channels:
        await channel.close()
    return loaded


async def _ended(work: Sequence[asyncio.Future[None]], turn: _Turn) -> None:
    """Wait for all of it.

    Raises:
        BenchmarkError: answers are outstanding for too long.
    """
    while True:
        before = len(turn.answers)
        waited = turn.order.seconds + PATIENCE_SECONDS
        _, pending = await asyncio.wait(work, timeout=waited, return_when=asyncio.ALL_COMPLETED)
        if not pending:
            break
        if len(turn.answers) == before:
            raise BenchmarkError(f"{len(pending)} requests have had no answer for {waited:.0f} s.")
    for one in work:
        one.result()
