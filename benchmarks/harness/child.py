"""Child processes of the benchmarks, measured: wall time and peak memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import provenance
from toolkit.errors import ToolkitError

POLL_SECONDS = 0.2
INHERITED = 1.05
"""Counters of resident memory are exact to some pages per thread only: a peak this close to the inherited one says
nothing."""
_SHOWN_LINES = 20


class BenchmarkError(ToolkitError):
    """A benchmark that cannot be run as asked, or whose child process failed. The message is one clear sentence."""


@dataclass(frozen=True)
class Run:
    """One child process that ended well."""

    seconds: float
    """Wall time of the whole process, start of the interpreter included."""
    peak_bytes: int | None
    """Largest peak resident memory of any one process: the child or one it started (``ru_maxrss`` of ``wait4``;
    ``peak_of`` says when not)."""
    tree_bytes: int | None
    """Largest sum of anonymous memory over the process and its descendants; pages shared after a fork count more than
    once."""
    stdout: str


@dataclass
class _Peak:
    largest: int | None = None
    tree: int | None = None

    def sample(self, pid: int) -> None:
        members = _tree(pid)
        peaks = [peak for peak in (_status(member, "VmHWM") for member in members) if peak is not None]
        if peaks:
            self.largest = max(*peaks, self.largest or 0)
        total = sum(_status(member, "RssAnon") or 0 for member in members)
        if total:
            self.tree = max(total, self.tree or 0)

    def watch(self, pid: int, ended: threading.Event) -> None:
        while not ended.is_set():
            self.sample(pid)
            ended.wait(POLL_SECONDS)


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
        self._floor = (
            provenance.peak_memory_bytes()
        )  # Popen returns after exec: the child can have inherited no more than this
        self._peak, self._ended = _Peak(), threading.Event()
        self._watcher = threading.Thread(target=self._peak.watch, args=(self._process.pid, self._ended), daemon=True)
        self._watcher.start()

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
        self._ended.set()
        if self._code is None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()
        self._watcher.join()
        self._files.close()

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
        return Run(seconds, peak_of(self._reported, self._peak.largest, self._floor), self._peak.tree, stdout)


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


def run_in_turns(commands: Sequence[Command], turns: Sequence[float]) -> list[Run]:
    """Run commands side by side, each in its turn, so that what slows the machine slows them all.

    Args:
        commands: what to run.
        turns: seconds of each one's turn.

    Returns:
        What was measured of each; its seconds are those of its own turns.

    Raises:
        BenchmarkError: one could not be started, or ended with another exit code than 0.
    """
    spent = [0.0] * len(commands)
    results: dict[int, Run] = {}
    with contextlib.ExitStack() as stack:
        children: dict[int, Child] = {}
        while len(results) < len(commands):
            for index, (command, turn) in enumerate(zip(commands, turns, strict=True)):
                if index in results:
                    continue
                began = time.perf_counter()
                if index in children:
                    children[index].signal(signal.SIGCONT)
                else:
                    children[index] = stack.enter_context(Child(command.words, command.environment))
                has_ended = children[index].wait(turn)
                if not has_ended:
                    children[index].signal(signal.SIGSTOP)
                spent[index] += time.perf_counter() - began
                if has_ended:
                    results[index] = children[index].result(spent[index])
    return [results[index] for index in range(len(commands))]


def peak_of(reported: int | None, sampled: int | None, floor: int | None) -> int | None:
    """Return the peak memory of a child in bytes.

    Args:
        reported: ``ru_maxrss``. It is exact, but on Linux it survives exec, so that a child begins with the peak of the
            process that starts it.
        sampled: ``VmHWM``, read every 0.2 s; taken where ``reported`` may be nothing but that inheritance.
        floor: peak memory of the process that starts the child.
    """
    inherited = reported is not None and floor is not None and reported <= floor * INHERITED
    return sampled if reported is None or inherited else reported


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def _status(pid: int, name: str) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _tree(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                with contextlib.suppress(OSError):
                    members += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return members


def shown(argument: str) -> str:
    """Return an argument as a report may show it: of an absolute path the last name only."""
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    return f"{option}{equals}.../{path.name}" if path.is_absolute() else argument
