"""What the tests of the server share: measurements that take no time, a model that is opened, image files."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from toolkit.serving.hosted import Engines, Hosted, Opening, open_engines
from toolkit.serving.interface import Answered, Limits, Phase

T = TypeVar("T")
SECONDS = 20
ONE_BY_ONE = Opening(threads=1, batch_size=1)
BATCHED = Opening(threads=1, batch_size=4)


@pytest.fixture(autouse=True)
def no_time_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.serving.strategy.TRIAL_SECONDS", 0.001)


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run something that must come to its end."""

    async def bounded() -> T:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


class Noted:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[Answered] = []
        self.spent: list[dict[Phase, float]] = []
        self.batches: list[int] = []
        self.labels: list[str] = []
        self.queue: list[int] = []

    def request(self, answered: Answered) -> None:
        self.requests.append(answered)

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        self.spent.append(dict(seconds))

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        self.batches.append(images)

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        self.labels.append(label)

    def queued(self, model: str, version: str, images: int) -> None:
        self.queue.append(images)


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def png(colour_image: Callable[[str], np.ndarray]) -> Callable[[str], bytes]:
    """Return a maker of image files in the colour of a label."""

    def make(label: str) -> bytes:
        content = io.BytesIO()
        Image.fromarray(colour_image(label)).save(content, "PNG")
        return content.getvalue()

    return make


@pytest.fixture
def host(colour_bundle_once: Path, noted: Noted) -> Iterator[Callable[..., Hosted]]:
    """Return what opens the bundle of colours; what it has opened is closed."""
    opened: list[Hosted] = []

    def open_it(opening: Opening = ONE_BY_ONE, limits: Limits | None = None, engines: Engines | None = None) -> Hosted:
        engines = engines or open_engines(colour_bundle_once, opening)
        opened.append(Hosted("colours", "1", engines, limits or Limits(), noted))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


class Asked:
    """A request to an ASGI application, as a server hands it over: the body in pieces, and a client that may hang up.

    Attributes:
        status: of the answer; 0 while there is none.
        headers: of the answer.
        body: of the answer.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str], pieces: list[bytes], stay: bool) -> None:
        path, _, query = target.partition("?")
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        self._pieces = list(pieces)
        self._stay = stay
        self._answered = asyncio.Event()
        self.hang_up = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def to(self, app: Any) -> Asked:
        """Ask, and return this with the answer."""
        await app(self._scope, self._receive, self._send)
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def _receive(self) -> dict[str, Any]:
        if self._pieces:
            body = self._pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._pieces) or self._stay}
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.hang_up, self._answered)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "a second answer"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._answered.set()


def asked(method: str, target: str, *pieces: bytes, headers: dict[str, str] | None = None, stay: bool = False) -> Asked:
    """Return a request; ``stay``: the body is never complete."""
    given = dict(headers or {})
    if pieces and "content-length" not in given and not stay:
        given["content-length"] = str(sum(map(len, pieces)))
    return Asked(method, target, given, list(pieces) or [b""], stay)


def form(*files: tuple[str | None, bytes], boundary: str = "limit") -> tuple[bytes, dict[str, str]]:
    """Return a form of files, each with its name or without one, and its header."""
    parts = []
    for name, content in files:
        given = "" if name is None else f'; filename="{name}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"{given}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), {
        "content-type": f"multipart/form-data; boundary={boundary}"
    }
