"""The parent's side of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.results import Record

OUT_OF_MEMORY_HINT = " (the system does that when memory runs out)"
STOP_SECONDS = 5.0
"""How long each way to end a worker is given before the next, harder one."""


class WorkerFailedError(Exception):
    """A worker raised or died; the message says why in one sentence.

    It never leaves the stage: it becomes a row without figures.
    """


class WorkerProcess:
    """A running worker. It imports its engine as soon as it starts; ``wait_ready`` waits for that.

    Args:
        job: what it measures.
        log: file for what the worker and its engine print.
        module: the worker, which is run as ``python -m MODULE``.
    """

    def __init__(self, job: Record, log: Path, module: str = "toolkit.bench.worker") -> None:
        self._log = log
        # The child finds the same packages as this process. -P keeps it from importing what happens to lie in the
        # working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
                encoding="utf-8",
            )
        self._send(job.model_dump(mode="json"))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the engine is imported.

        Raises:
            WorkerFailedError: it raised or died.
        """
        self._receive()

    def ask(self, do: str, **arguments: int) -> dict[str, Any]:
        """Send one command and wait for its reply.

        Raises:
            WorkerFailedError: it raised or died.
        """
        self._send({"do": do, **arguments})
        return self._receive()

    def close(self) -> None:
        """End the process: it ends by itself when its input does; one that does not is terminated, then killed.

        Whoever presses Ctrl-C does not wait until it has done what it is at: then it is terminated at once.
        """
        if isinstance(sys.exception(), KeyboardInterrupt):
            self._process.terminate()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # a dead worker's pipe cannot be flushed
                    stream.close()
        for harder in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                harder()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if self._process.stdin is None:  # it was opened as a pipe
            raise WorkerFailedError("the worker has no standard input")
        # A worker that is gone is noticed, with its reason, when its reply is read.
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message, allow_nan=False) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line.endswith("\n"):
            raise WorkerFailedError(self._cause_of_death())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerFailedError(reply["error"])
        return reply

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "the worker stopped answering"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"the worker was killed by {name}{OUT_OF_MEMORY_HINT if name == 'SIGKILL' else ''}"
        log_lines = [
            line.strip()
            for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        return f"the worker ended with exit code {code}" + (f": {log_lines[-1]}" if log_lines else "")
