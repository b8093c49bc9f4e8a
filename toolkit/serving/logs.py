"""Structured logs of the server: one JSON object a line, or a line to read, without anything of an image.

Every line that a request causes carries its id, which the client may give and always gets back.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import random
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, TypeAlias

from toolkit.printable import printable, printable_lines
from toolkit.serving.interface import Answered
from toolkit.serving.observers import Indifferent, outcome_of

Style: TypeAlias = Literal["json", "text"]
REQUEST_ID_HEADER: Final = "x-request-id"
"""In HTTP and, as metadata, in gRPC."""
LONGEST_TEXT = 500
"""Characters of a message that quotes what somebody sent."""
_LINES_THAT_WAIT = 10_000
_LOOK_SECONDS = 0.05
_GIVEN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_LOGGERS = ("toolkit", "uvicorn", "asyncio", "grpc")
_ACCESS_LOGGER = "uvicorn.access"
_ENCODER = json.JSONEncoder(default=str)
_request_id: ContextVar[str] = ContextVar("request_id", default="")
_logger = logging.getLogger("toolkit.serving.requests")


@contextlib.contextmanager
def request_id(given: str | None = None) -> Iterator[str]:
    """Give what is logged in this block the id of a request, and yield it.

    Args:
        given: by the client; a new one where it gave none, or one that could be mistaken for something else in a log
            (see ``_GIVEN_ID``).
    """
    # A new one is no secret, so the system need not be asked for each.
    used = given if given is not None and _GIVEN_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    token = _request_id.set(used)
    try:
        yield used
    finally:
        _request_id.reset(token)


class RequestLog(Indifferent):
    """An observer that writes a line for each request. What is seen in an image is whoever's that sent it."""

    def request(self, answered: Answered) -> None:
        """Log a request: what was asked of which model, and what became of it."""
        refusal = answered.refusal
        fields: dict[str, Any] = {
            "model": printable(answered.model)[:LONGEST_TEXT],
            "version": answered.version,
            "protocol": answered.protocol,
            "images": answered.images,
            "outcome": outcome_of(answered),
            "seconds": round(answered.seconds, 6),
        }
        if refusal is not None:
            fields["reason"] = _cut(str(refusal))
        level = logging.INFO if refusal is None or refusal.http < 500 else logging.WARNING
        if _logger.isEnabledFor(level):
            # As Logger.log does it, but for where in the source that was said, which no line of ours tells.
            extra = {"fields": fields}
            _logger.handle(_logger.makeRecord(_logger.name, level, "", 0, "request", (), None, extra=extra))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ``time`` (UTC), ``level``, ``logger``, ``message``, ``request_id``, its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if used := _request_id.get():
            line["request_id"] = used
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line)


class TextFormatter(logging.Formatter):
    """A record as a line for people; only a traceback has several."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = dict(getattr(record, "fields", {}))
        if used := _request_id.get():
            fields["request_id"] = used
        said = "".join(f" {name}={value}" for name, value in fields.items() if value != "")
        line = f"{_time(record)} {record.levelname:<7} {printable(record.getMessage() + said)}"
        return f"{line}\n{printable_lines(self.formatException(record.exc_info))}" if record.exc_info else line


@contextlib.contextmanager
def logging_to(stream: TextIO, style: Style = "json", level: int = logging.INFO) -> Iterator[None]:
    """Write what the server and what it runs on log to a stream, from a thread of its own, until the block ends.

    Nobody waits for the stream: where it takes nothing (a pipe that nobody reads), some thousands of lines wait and
    further ones are counted instead. The access log of uvicorn, which knows less than ``RequestLog``, is off.
    """
    handler = _Background(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    access = logging.getLogger(_ACCESS_LOGGER)
    before = [(each, each.level, each.propagate, list(each.handlers)) for each in (*loggers, access)]
    for each in loggers:
        each.setLevel(level)
        each.propagate, each.handlers = False, [handler]
    access.handlers, access.propagate = [], False
    try:
        yield
    finally:
        for each, old_level, propagate, handlers in before:
            each.setLevel(old_level)
            each.propagate, each.handlers = propagate, handlers
        handler.close()


class _Background(logging.Handler):
    """Formats a record where it is made, because its request is known there, and writes it in a thread.

    The thread looks for lines some times a second. To be woken for each would cost the requests more than the line.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        self._lost = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, name="toolkit-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if len(self._lines) < _LINES_THAT_WAIT:
            self._lines.append(line)
        else:
            self._lost += 1

    def close(self) -> None:
        """Write what waits, for a second at most, and end the thread."""
        self._ended.set()
        self._thread.join(timeout=1)
        super().close()

    def _write(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_LOOK_SECONDS)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self._lost:
                lost, self._lost = self._lost, 0
                record = logging.makeLogRecord({"name": "toolkit.serving", "levelno": logging.WARNING})
                record.levelname, record.msg = "WARNING", f"{lost} lines of this log were lost: nobody took them."
                lines.append(self.format(record))
            if not lines:
                continue
            # A stream that is closed or full takes nothing; there is nowhere left to say so.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("".join(f"{each}\n" for each in lines))
                self._stream.flush()


def _time(record: logging.LogRecord) -> str:
    second, fraction = divmod(record.created, 1)
    return f"{_second(int(second))}.{int(fraction * 1000):03}+00:00"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _cut(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"
