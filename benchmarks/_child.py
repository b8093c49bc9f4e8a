"""Child processes of the benchmarks, measured: wall time and peak memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import provenance
from toolkit.errors import ToolkitError

POLL_SECONDS = 0.2
INHERITED = 1.05
"""Counters of resident memory are exact to some pages per thread only: a peak this close to the inherited one says nothing."""
_SHOWN_LINES = 20


class BenchmarkError(ToolkitError):
    """A benchmark that cannot be run as asked, or whose child process failed. The message is one clear sentence."""


@dataclass(frozen=True)
class Run:
    """One child process that ended well."""

    seconds: float
    """Wall time of the whole process, start of the interpreter included."""
    peak_bytes: int | None
    """Largest peak resident memory of any one process: the child or one it started (``ru_maxrss`` of ``wait4``; ``peak_of`` says when not)."""
    tree_bytes: int | None
    """Largest sum of anonymous memory over the process and its descendants; pages shared after a fork count more than once."""
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


def run_child(command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Run:
    """Run a command to its end and measure it. Its messages are shown only where it fails.

    Raises:
        BenchmarkError: it could not be started, or ended with another exit code than 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as messages:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdout=out, stderr=messages, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})}, cwd=folder
            )
        except OSError as error:
            raise BenchmarkError(f"{shown(command[0])} cannot be started: {error.strerror or error}.") from error
        floor = provenance.peak_memory_bytes()  # Popen returns after exec: the child can have inherited no more than this
        peak, ended = _Peak(), threading.Event()
        watcher = threading.Thread(target=peak.watch, args=(process.pid, ended), daemon=True)
        watcher.start()
        try:
            code, reported = _wait(process)
            seconds = time.perf_counter() - began
        finally:
            ended.set()
            if process.poll() is None:
                process.kill()
                process.wait()
            watcher.join()
        stdout, stderr = (_content(file) for file in (out, messages))
    if code != 0:
        last = "\n".join((stdout + stderr).splitlines()[-_SHOWN_LINES:])
        raise BenchmarkError(f"{shown(command[0])} ended with exit code {code}; it said:\n{last}")
    return Run(seconds, peak_of(reported, peak.largest, floor), peak.tree, stdout)


def peak_of(reported: int | None, sampled: int | None, floor: int | None) -> int | None:
    """Return the peak memory of a child in bytes.

    Args:
        reported: ``ru_maxrss``. It is exact, but on Linux it survives exec, so that a child begins with the peak of the process that starts it.
        sampled: ``VmHWM``, read every 0.2 s; taken where ``reported`` may be nothing but that inheritance.
        floor: peak memory of the process that starts the child.
    """
    inherited = reported is not None and floor is not None and reported <= floor * INHERITED
    return sampled if reported is None or inherited else reported


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int | None]:
    """Wait for the end; return the exit code and ``ru_maxrss`` in bytes, over the process and the children it waited for."""
    if not hasattr(os, "wait4"):
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
