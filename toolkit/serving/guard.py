"""What every request over HTTP passes before a route sees it: keys, limits, and whether any is still taken.

The protocols need not ask for any of it: a body that grows too large, or does not come, is a ``Refusal`` where it is
read. Over gRPC the same keys and the same gate are asked (``toolkit.serving.server``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.answers import refused
from toolkit.serving.deadline import arrived
from toolkit.serving.interface import Limits
from toolkit.serving.keys import ApiKeys
from toolkit.serving.refusals import NotReady, Overloaded, Refusal, TimedOut, TooLarge

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Asked by machines that have no key, and until the end."""
_BODIES_AT_ONCE = 16
"""So many bodies of the largest size may be held at the same time."""
_MOST_BODY_BYTES = 2**30
"""That are held at the same time, unless a single body may be larger."""
_RETRY_SECONDS = 1.0


class Gate:
    """Which requests are inside, and whether more are let in.

    Attributes:
        open: False once the server ends: what is inside is answered, nothing else is taken.
        is_abandoned: whether what is inside is given up too.
    """

    def __init__(self, limits: Limits) -> None:
        self.open = True
        self.is_abandoned = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held_bytes = 0
        self._most_bytes = max(limits.body_bytes, min(_BODIES_AT_ONCE * limits.body_bytes, _MOST_BODY_BYTES))
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold a place inside for the block, which this task works in."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._empty.clear()
        try:
            yield
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._empty.set()

    @property
    def inside(self) -> int:
        """How many requests were let in and have no answer yet."""
        return len(self._tasks)

    def abandon(self) -> None:
        """Take nothing, and give up what is inside."""
        self.open, self.is_abandoned = False, True
        for task in self._tasks:
            task.cancel()

    async def empty(self, seconds: float) -> bool:
        """Wait until nothing is inside; say whether that came about in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def hold(self, size: int) -> None:
        """Take room for bytes of a body, or give it back where the number is negative.

        Raises:
            Overloaded: there is none now.
        """
        if size > 0 and self._held_bytes + size > self._most_bytes:
            raise Overloaded("the requests that are being read fill the memory for them: come back later.", 1.0)
        self._held_bytes += size


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, limits: Limits, gate: Gate, keys: ApiKeys | None, public: frozenset[str]) -> None:
        """Put it around another one.

        Args:
            app: what answers requests.
            limits: of body and time.
            gate: asked whether requests are taken.
            keys: that are known; None where nobody needs one.
            public: paths that need none.
        """
        self._app = app
        self._limits = limits
        self._gate = gate
        self._keys = keys
        self._public = public | HEALTH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path, headers = scope["path"], Headers(scope=scope)
        body = _Body(receive, headers, self._limits, self._gate)
        send = self._sender(send, body)
        if not self._gate.open and path not in HEALTH:
            await refused(NotReady("this server is ending.", _RETRY_SECONDS))(scope, receive, send)
            return
        if self._keys is not None and path not in self._public and (no := self._keys.authorize(headers)) is not None:
            await refused(no)(scope, receive, send)
            return
        with self._gate.request():
            try:
                body.require_size()
                await self._app(scope, body.receive, send)
            except Refusal as refusal:
                if body.answer_has_begun:
                    raise
                await refused(refusal)(scope, receive, send)
            except asyncio.CancelledError:
                if not (body.is_gone or self._gate.is_abandoned):
                    raise
                # Cancelled by us alone: whoever asked has hung up, or the server ends.
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()
                if not (body.is_gone or body.answer_has_begun):
                    await refused(NotReady("this server has ended.", _RETRY_SECONDS))(scope, receive, send)
            finally:
                body.end()

    def _sender(self, send: Send, body: _Body) -> Send:
        """Have a connection end with its answer where a body was left unread, or the server ends."""

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start" and (body.is_unread or not self._gate.open):
                headers = [pair for pair in message.get("headers", ()) if pair[0] != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            body.answer_has_begun = True
            body.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        return sender


class _Body:
    """The body of a request while it is read, and whoever sends it."""

    def __init__(self, receive: Receive, headers: Headers, limits: Limits, gate: Gate) -> None:
        length = headers.get("content-length")
        self._length = int(length[:20]) if length is not None and length.isdecimal() else 0
        self.is_unread = self._length > 0 or "transfer-encoding" in headers
        self.is_gone = False
        self.answer_has_begun = False
        self.is_answered = False
        self._receive = receive
        self._limits = limits
        self._gate = gate
        self._bytes = 0
        self._until = arrived(limits.seconds)
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def require_size(self) -> None:
        """Refuse a body that says itself that it is too large.

        Raises:
            TooLarge: it does.
        """
        if self._length > self._limits.body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """Return the next piece.

        Raises:
            TooLarge: there is more than a request may have.
            TimedOut: it does not come.
            Overloaded: there is no memory for it.
        """
        if self._watcher is not None:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise TimedOut(f"the whole request was not here within {self._limits.seconds:g} s.") from error
        if message["type"] == "http.disconnect":
            self._give_up()
            await asyncio.sleep(0)  # where the cancellation arrives
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            if self._bytes + size > self._limits.body_bytes:
                raise self._too_large()
            self._gate.hold(size)
            self._bytes += size
            if not message.get("more_body", False):
                self.is_unread = False
                self._watcher = asyncio.create_task(self._watch())
        return message

    def end(self) -> None:
        """Give back what was held."""
        self._gate.hold(-self._bytes)
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        """Stop the work when whoever waits for the answer hangs up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._give_up()

    def _give_up(self) -> None:
        if self._task is not None and not self.is_answered:
            self.is_gone = True
            self._task.cancel()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the request has more than {self._limits.body_bytes} bytes, the most that is taken here.")
