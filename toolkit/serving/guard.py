"""What every request over HTTP passes before a route sees it: its id, keys, limits, and whether any is still taken.

The protocols need not ask for any of it: a body that grows too large, or does not come, is a ``Refusal`` where it is
read, and a fault of ours is answered here. Over gRPC the same keys and the same gate are asked
(``toolkit.serving.server``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.answers import refused
from toolkit.serving.deadline import arrived
from toolkit.serving.interface import Limits
from toolkit.serving.keys import ApiKeys
from toolkit.serving.logs import REQUEST_ID_HEADER, request_id
from toolkit.serving.refusals import FAULT, ModelFailed, NotReady, Overloaded, Refusal, TimedOut, TooLarge

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Asked by machines that have no key, and until the end."""
LOOK_SECONDS = 0.25
"""After which it is looked whether the rest of a request comes, and whether whoever has sent it is still there."""
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
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

    def enter(self) -> asyncio.Task[Any]:
        """Give the task that runs now a place inside, and return it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._empty.clear()
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Take the place of a task back."""
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
        headers = dict(reversed(scope["headers"]))  # of several with one name the first
        given = headers.get(_REQUEST_ID)
        with request_id(None if given is None else given.decode("latin-1")) as used:
            exchange = _Exchange(headers, used, (receive, send), self._limits, self._gate)
            refusal = self._refusal(scope, exchange)
            if refusal is not None:
                await refused(refusal)(scope, receive, exchange.send)
                return
            task = self._gate.enter()
            try:
                await self._answer(scope, exchange, task)
            finally:
                exchange.end()
                self._gate.leave(task)

    def _refusal(self, scope: Scope, exchange: _Exchange) -> Refusal | None:
        """Say why a request is not even looked at."""
        path = scope["path"]
        if not self._gate.open and path not in HEALTH:
            return NotReady("this server is ending.", _RETRY_SECONDS)
        if self._keys is not None and path not in self._public:
            no = self._keys.authorize(Headers(scope=scope))
            if no is not None:
                return no
        return exchange.too_large if exchange.says_too_much else None

    async def _answer(self, scope: Scope, exchange: _Exchange, task: asyncio.Task[Any]) -> None:
        """Have a request answered, whatever is raised on the way."""
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not (exchange.is_gone or self._gate.is_abandoned):
                raise
            # Cancelled by us alone: whoever asked has hung up, or the server ends.
            task.uncancel()
            if not (exchange.is_gone or exchange.answer_has_begun):
                ended = NotReady("this server has ended.", _RETRY_SECONDS)
                await refused(ended)(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.answer_has_begun:
                await refused(ModelFailed(FAULT))(scope, exchange.receive, exchange.send)
            raise  # for the log of the server around


class _Exchange:
    """A request and its answer: the body while it is read, whoever sends it, and what goes back.

    Attributes:
        says_too_much: whether its head tells of a body that is too large.
        is_unread: whether some of its body was not read.
        is_gone: whether whoever has sent it has hung up, and the work on it was given up.
        answer_has_begun: whether some of the answer was sent.
    """

    def __init__(
        self,
        headers: Mapping[bytes, bytes],
        request_id: str,
        channels: tuple[Receive, Send],
        limits: Limits,
        gate: Gate,
    ) -> None:
        length = headers.get(b"content-length", b"")
        promised = int(length[:20]) if length.isdigit() else 0
        self.says_too_much = promised > limits.body_bytes
        self.is_unread = promised > 0 or b"transfer-encoding" in headers
        self.is_gone = False
        self.answer_has_begun = False
        self._is_answered = False
        self._id = request_id.encode("ascii")
        self._receive, self._send = channels
        self._limits = limits
        self._gate = gate
        self._bytes = 0
        self._until = arrived(limits.seconds)
        self._task = asyncio.current_task()
        self._is_whole = False
        self._is_waited_for = False
        """The next piece of the body."""
        self._is_slow = False
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def too_large(self) -> TooLarge:
        """The refusal of a body that is."""
        return TooLarge(f"the request has more than {self._limits.body_bytes} bytes, the most that is taken here.")

    async def receive(self) -> Message:
        """Return the next piece of the body.

        Raises:
            TooLarge: there is more than a request may have.
            TimedOut: it does not come.
            Overloaded: there is no memory for it.
        """
        if self._is_whole:
            return await self._receive()
        message = await self._next()
        if message["type"] == "http.disconnect":
            self._give_up()
            await asyncio.sleep(0)  # where the cancellation arrives
            return message
        size = len(message.get("body", b""))
        if self._bytes + size > self._limits.body_bytes:
            raise self.too_large
        self._gate.hold(size)
        self._bytes += size
        if not message.get("more_body", False):
            self._is_whole, self.is_unread = True, False
            if self._is_slow:
                self._look()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, which has the id of the request.

        The connection ends with the answer where a body was left unread, or the server ends.
        """
        if message["type"] == "http.response.start":
            self.answer_has_begun = True
            headers = [*message.get("headers", ()), (_REQUEST_ID, self._id)]
            if self.is_unread or not self._gate.open:
                headers = [pair for pair in headers if pair[0] != b"connection"]
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self._is_answered = not message.get("more_body", False)
        await self._send(message)

    def end(self) -> None:
        """Give back what was held."""
        self._gate.hold(-self._bytes)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def _next(self) -> Message:
        """Wait for the next piece, until the request is late."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        if self._is_late:
            raise self._late()
        self._is_waited_for = True
        try:
            return await self._receive()
        except asyncio.CancelledError as error:
            # The only cancellation is ours: see _end_wait.
            if self._is_late and self._task is not None and self._task.uncancel() == 0:
                raise self._late() from error
            raise
        finally:
            self._is_waited_for = False

    def _late(self) -> TimedOut:
        return TimedOut(f"the whole request was not here within {self._limits.seconds:g} s.")

    def _look(self) -> None:
        """See what becomes of a request that is not answered at once, as most are: those cost no task.

        Where its body is not here, it may come until the deadline. Where it is, who waits for the answer is watched.
        """
        self._is_slow = True
        if self._timer is not None:
            self._timer.cancel()
        if self._is_whole:
            self._watcher = asyncio.create_task(self._watch())
        else:
            self._timer = asyncio.get_running_loop().call_at(self._until, self._end_wait)

    def _end_wait(self) -> None:
        self._is_late = True
        if self._is_waited_for and self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        """Stop the work when whoever waits for the answer hangs up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._give_up()

    def _give_up(self) -> None:
        if self._task is not None and not self._is_answered:
            self.is_gone = True
            self._task.cancel()
