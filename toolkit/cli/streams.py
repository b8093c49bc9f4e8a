r"""Standard output and standard error as the commands write to them.

Whatever prints (Typer, Rich, the csv module) meets the same three things: a character that the terminal's encoding
lacks is written as ``\uXXXX``, which JSON reads back; output that cannot be written is one sentence; a reader that has
gone (``| head -1``) ends the command without a word.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from toolkit.errors import OutputError

PIPE_CLOSED = 141
"""Exit code when nobody reads on, as shells have it (128 + SIGPIPE)."""
_ESCAPED = "toolkit-escaped"


class PipeClosedError(Exception):
    """Whoever read standard output has gone."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2] for at in range(0, len(units), 2))
    return "".join(f"\\u{int.from_bytes(unit):04x}" for unit in pairs), error.end


class _Stream:
    """A text stream that stands in for another one; what it does not do itself, that one does."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # where Typer would write past this, in an encoding of its own choice
            raise AttributeError(name)
        return getattr(self._stream, name)


class _Results(_Stream):
    """Standard output: a result that is lost is an error, and stays one."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._failure: Exception | None = None

    def write(self, text: str) -> int:
        """Write some text."""
        # Typer writes b"" and "" to see what kind of stream this is, and takes any error for an answer.
        if not isinstance(text, str):
            raise TypeError(f"standard output takes text, not {type(text).__name__}")
        if text:
            self._do("write", text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None or self._failure is not None:
            self._do("flush")

    def _do(self, action: str, *arguments: str) -> None:
        if self._failure is None:
            if self._stream is None:
                self._failure = OutputError("the results cannot be written: standard output is closed.")
            else:
                try:
                    getattr(self._stream, action)(*arguments)
                except OSError as error:
                    self._failure = self._lost(error)
        if self._failure is not None:
            raise self._failure

    def _lost(self, error: OSError) -> Exception:
        # What is still buffered would be tried again, and complained about, when Python ends.
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]  # there is one: it has just failed
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return PipeClosedError()
        return OutputError(
            f"the results cannot be written to standard output: {error.strerror or error}. Free some space, or send "
            "them elsewhere."
        )


class _Messages(_Stream):
    """Standard error: work does not end because nobody can be told of it."""

    def write(self, text: str) -> int:
        """Write some text if that is possible."""
        with suppress(OSError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written if that is possible."""
        with suppress(OSError):
            if self._stream is not None:
                self._stream.flush()


@contextmanager
def standard_streams() -> Iterator[None]:
    """Put both streams in place for a command, and what was there before back when it ends.

    Raises:
        OutputError: standard output cannot be written.
        PipeClosedError: nobody reads it any more.
    """
    codecs.register_error(_ESCAPED, _escaped)
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    for stream in before:
        with suppress(AttributeError):  # None, or a stream of somebody's own
            stream.reconfigure(errors=_ESCAPED)
    sys.stdout, sys.stderr = _Results(before[0]), _Messages(before[1])
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before
