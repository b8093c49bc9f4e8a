"""A connection over HTTP whose head comes in time and is not endless, which uvicorn leaves to a proxy before it.

An answer leaves in one piece: uvicorn sends its head by itself, which wakes whoever waits for it to read half of it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0
"""For the first line and the headers of a request, from the connection's start or the request's first byte."""
MOST_HEAD_BYTES = 65_536
"""Of these; and of what may follow a body in chunks."""
_GO_ON: Final = b"HTTP/1.1 100 "
"""How what comes before an answer begins."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with these two bounds. A head that comes at once, as most do, costs no timer."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaits_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._field_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        super().data_received(data)
        if not self._awaits_head:
            return
        self._head_bytes += len(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")
        elif self._head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._awaits_head = True
        self._head_bytes = self._field_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or what follows the body in its place."""
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > MOST_HEAD_BYTES:
            raise ValueError("too many bytes of headers")  # which uvicorn answers with 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._head_is_there()
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer is its head
            self.cycle.transport = _Answer(self.transport)  # type: ignore[assignment]  # of which it calls no more

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _head_is_there(self) -> None:
        self._awaits_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


class _Answer:
    """What an answer is written to: its head waits for what comes behind it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        """None before there is one, empty once it was sent."""

    def write(self, data: bytes) -> None:
        """Send something, or keep it if it is the head."""
        if self._head is None and not data.startswith(_GO_ON):
            self._head = data
        elif self._head:
            self._transport.writelines((self._head, data) if data else (self._head,))
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what waits, and end the connection."""
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the connection ends."""
        return self._transport.is_closing()
