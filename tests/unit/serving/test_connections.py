from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

pytest.importorskip("httptools", reason="httptools is not installed")

from toolkit.serving import connections
from toolkit.serving.connections import MOST_HEAD_BYTES, Connection, _Answer

SECONDS = 10


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{scope['path']} {len(body)}")(scope, receive, send)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(with_it: Talk) -> None:
    """Serve the echo on some port, and do something with a connection to it."""

    async def work() -> None:
        config = uvicorn.Config(
            echo, port=0, http=Connection, ws="none", lifespan="off", log_config=None, loop="asyncio"
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(SECONDS):
                await with_it(reader, writer)
            writer.close()
        finally:
            await server.shutdown()

    asyncio.run(work())


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head.split(b"\r\n")[0] + b" " + await reader.readexactly(int(lengths[0].split(b":")[1]))


def test_requests_are_answered_one_after_the_other_on_a_connection() -> None:
    async def several(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for path in (b"/a", b"/b"):
            writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert await answer(reader) == b"HTTP/1.1 200 OK " + path + b" 3"
        big = b"x" * (4 * MOST_HEAD_BYTES)  # a body is no head
        writer.write(b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
        assert await answer(reader) == b"HTTP/1.1 200 OK /c %d" % len(big)
        writer.write(b"GET /d HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await answer(reader) == b"HTTP/1.1 200 OK /d 0"

    talk(several)


@pytest.mark.parametrize("said", [b"", b"POST /a HTTP/1.1\r\nHos"])
def test_a_head_that_does_not_come_ends_the_connection(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def too_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        assert await reader.read() == b""

    talk(too_late)


def test_the_next_request_has_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await answer(reader) == b"HTTP/1.1 200 OK /a 0"
            await asyncio.sleep(0.4)  # idle between two requests is no head that does not come
        writer.write(b"GET /a HTT")
        assert await reader.read() == b""

    talk(later)


def test_a_head_that_comes_at_once_costs_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Connection] = []
    wait = Connection._wait_for_head

    def counted(connection: Connection) -> None:
        waits.append(connection)
        wait(connection)

    monkeypatch.setattr(Connection, "_wait_for_head", counted)

    async def several(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await answer(reader) == b"HTTP/1.1 200 OK /a 0"
        assert len(waits) == 1, "only that of the connection"
        writer.write(b"GET /a HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
        assert len(waits) == 2
        writer.write(b"Host: x\r\n\r\n")
        assert await answer(reader) == b"HTTP/1.1 200 OK /a 0"

    talk(several)


@pytest.mark.parametrize(
    "said",
    [
        b"GET /" + b"a" * (3 * MOST_HEAD_BYTES) + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * (3 * MOST_HEAD_BYTES),
        b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaaaaaaaaa\r\n" * MOST_HEAD_BYTES,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: aaaaaaaaaaaaaaa\r\n" * MOST_HEAD_BYTES,
    ],
    ids=["a long line", "a long header", "many headers", "many of them after the body"],
)
def test_an_endless_head_is_refused(said: bytes) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for at in range(0, len(said), 65_536):
                writer.write(said[at : at + 65_536])
                await writer.drain()
            got = await reader.read()
        except ConnectionError:
            return
        assert got == b"" or got.startswith(b"HTTP/1.1 400")

    talk(endless)


class Written:
    """A transport that keeps each thing that was written to it at once."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def writelines(self, several: tuple[bytes, ...]) -> None:
        self.pieces.append(b"".join(several))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class TestAnswer:
    def written(self, *pieces: bytes, close: bool = False) -> list[bytes]:
        transport = Written()
        answer = _Answer(transport)  # type: ignore[arg-type]
        for piece in pieces:
            answer.write(piece)
        if close:
            answer.close()
            assert answer.is_closing()
        return transport.pieces

    def test_the_head_leaves_with_what_follows(self) -> None:
        assert self.written(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"de") == [b"HTTP/1.1 200 OK\r\n\r\nabc", b"de"]
        assert self.written(b"HTTP/1.1 204 No Content\r\n\r\n", b"") == [b"HTTP/1.1 204 No Content\r\n\r\n"]

    def test_what_comes_before_an_answer_is_not_kept(self) -> None:
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert self.written(go_on) == [go_on]
        assert self.written(go_on, b"HTTP/1.1 200 OK\r\n\r\n", b"abc") == [go_on, b"HTTP/1.1 200 OK\r\n\r\nabc"]

    def test_nothing_is_lost_with_the_connection(self) -> None:
        assert self.written(b"HTTP/1.1 200 OK\r\n\r\n", close=True) == [b"HTTP/1.1 200 OK\r\n\r\n"]
        assert self.written(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", close=True) == [b"HTTP/1.1 200 OK\r\n\r\nabc"]
        assert self.written(close=True) == []


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_answers_to_requests_that_are_sent_together_come_one_after_the_other(method: bytes) -> None:
    async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b"".join(method + b" /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3))
        writer.write(said + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = (await reader.read()).split(b"HTTP/1.1 200 OK\r\n")
        bodies = [one.partition(b"\r\n\r\n")[2] for one in answers[1:]]
        assert bodies == [*(b"" if method == b"HEAD" else b"/%d 0" % number for number in range(3)), b"/last 0"]

    talk(together)


def test_a_body_is_asked_for_before_it_is_answered() -> None:
    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert await answer(reader) == b"HTTP/1.1 200 OK /a 3"

    talk(waits)
