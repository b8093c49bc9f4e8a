"""Commands as somebody types them whose output goes into a pipe: every line has the time at which it was there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.redaction import shown

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Line:
    """One line that a command printed."""

    seconds: float
    """After Enter."""
    text: str


@dataclass(frozen=True)
class Silence:
    """A time in which a command printed nothing."""

    seconds: float
    after: str
    """The line before it; empty before the first one."""


@dataclass(frozen=True)
class Typed:
    """A command that has ended."""

    command: str
    """As it was typed."""
    began: float
    """When Enter was pressed, in seconds of a clock that all commands of this process share."""
    lines: tuple[Line, ...]
    """In the order in which they came, standard error among them."""
    seconds: float
    """From Enter to its end."""
    code: int

    def first_line(self) -> float | None:
        """Return the seconds from Enter to the first line; None if there was none."""
        return self.lines[0].seconds if self.lines else None

    def largest_silence(self) -> Silence:
        """Return the longest time without a line: before the first one, between two, or after the last one."""
        before = (Line(0.0, ""), *self.lines)
        ends = (*(line.seconds for line in self.lines), self.seconds)
        silences = [Silence(end - line.seconds, line.text) for line, end in zip(before, ends, strict=True)]
        return max(silences, key=lambda silence: silence.seconds)


class Typing:
    """A command that was typed just now and may still run; leaving the block ends it and all that it started."""

    def __init__(self, command: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start it.

        Args:
            command: as it was typed, for the result.
            words: what is run.
            environment: all of it; nothing is inherited.
            folder: where it is typed.

        Raises:
            BenchmarkError: it could not be started.
        """
        if (
            signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ):  # a shell's background job, and what it starts inherits it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.command = command
        self.began = time.monotonic()
        self._ended = 0.0
        self._lines: list[Line] = []
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"{shown(words[0])} cannot be started: {error.strerror or error}.") from error
        self._reader = threading.Thread(target=self._read, name=f"lines of {command}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Typing:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._signal(signal.SIGINT)

    def wait_for(self, is_it: Callable[[str], bool], seconds: float) -> bool:
        """Wait for a line, so long at most; return whether it came before the command ended."""
        until = time.monotonic() + seconds
        while True:
            runs = self._reader.is_alive()  # asked first: what it read before its end is looked at
            if any(is_it(line.text) for line in tuple(self._lines)):
                return True
            if not runs or time.monotonic() > until:
                return False
            time.sleep(_LOOK_SECONDS)

    def end(self, seconds: float) -> Typed | None:
        """Wait for its end, so long at most; return what it did, None if it still runs."""
        self._reader.join(max(seconds, 0.0))
        if self._reader.is_alive():
            return None
        return Typed(self.command, self.began, tuple(self._lines), self._ended - self.began, self._process.wait())

    def _read(self) -> None:
        assert self._process.stdout is not None  # started with a pipe
        with self._process.stdout as pipe:
            for line in pipe:
                text = line.decode("utf-8", "replace").rstrip()
                self._lines.append(Line(time.monotonic() - self.began, text))
        self._process.wait()
        self._ended = time.monotonic()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, number)
