"""Child processes of the benchmarks, measured: wall time and peak memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.memory import MemoryWatch
from benchmarks.harness.redaction import shown

_SHOWN_LINES = 20


@dataclass(frozen=True)
class Run:
    """One child process that ended well."""

    seconds: float
    """Wall time of the whole process, start of the interpreter included."""
    peak_bytes: int | None
    """Largest peak resident memory of any one process: the child or one it started (``ru_maxrss`` of ``wait4``;
    ``memory.peak_of`` says when not)."""
    tree_bytes: int | None
    """Largest sum of anonymous memory over the process and its descendants; pages shared after a fork count more than
    once."""
    stdout: str
    turns: tuple[tuple[float, float], ...] = ()
    """When each of its turns began and ended, by ``time.monotonic``, which all processes of a machine share; empty
    where it had the machine to itself."""

    def seconds_until(self, moment: float) -> float:
        """Return how much of its own turns had passed at a moment of ``time.monotonic``."""
        return sum(max(0.0, min(ended, moment) - began) for began, ended in self.turns)


class Child:
    """A process of our own group that can be stopped and continued, with all that it starts.

    Its messages are shown only where it fails.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        """Start it.

        Raises:
            BenchmarkError: it could not be started.
        """
        self._name = shown(command[0])
        self._code: int | None = None
        self._reported: int | None = None
        with contextlib.ExitStack() as files:
            self._out, self._messages = (
                files.enter_context(tempfile.TemporaryFile()),
                files.enter_context(tempfile.TemporaryFile()),
            )
            self._process = self._start(command, environment, folder)
            self._files = files.pop_all()
        self._memory = MemoryWatch(self._process.pid)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str] | None, folder: Path | None
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                stdout=self._out,
                stderr=self._messages,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"{self._name} cannot be started: {error.strerror or error}.") from error

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()
        self._memory.stop()
        self._files.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, or where nobody has waited for it."""
        return self._code

    def terminate(self) -> None:
        """Ask the process itself to end, as a service manager does; see ``wait``."""
        if self._code is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, so long at most; return whether it has ended."""
        until = None if seconds is None else time.monotonic() + seconds
        while self._code is None and (until is None or time.monotonic() < until):
            pid, status, usage = os.wait4(self._process.pid, 0 if until is None else os.WNOHANG)
            if pid:
                self._code = self._process.returncode = os.waitstatus_to_exitcode(status)
                self._reported = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            else:
                time.sleep(0.01)
        return self._code is not None

    def result(self, seconds: float, allowed: Collection[int] = (0,)) -> Run:
        """Return what was measured, once it has ended.

        Raises:
            BenchmarkError: it ended with another exit code than those that are allowed.
        """
        stdout, stderr = (_content(file) for file in (self._out, self._messages))
        if self._code not in allowed:
            last = "\n".join((stdout + stderr).splitlines()[-_SHOWN_LINES:])
            raise BenchmarkError(f"{self._name} ended with exit code {self._code}; it said:\n{last}")
        return Run(seconds, self._memory.peak_bytes(self._reported), self._memory.tree_bytes, stdout)


@dataclass(frozen=True)
class Command:
    """What is run."""

    words: Sequence[str]
    environment: Mapping[str, str] | None = None


def run_child(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    allowed: Collection[int] = (0,),
) -> Run:
    """Run a command to its end and measure it.

    Raises:
        BenchmarkError: it could not be started, or ended with another exit code than those that are allowed.
    """
    began = time.perf_counter()
    with Child(command, environment, folder) as child:
        child.wait()
        return child.result(time.perf_counter() - began, allowed)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
