"""What a step of ``make gpu-check`` runs on, what it finds out, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESERVE_SECONDS = 5.0
"""Kept of the budget for writing down what was found."""


class CannotError(Exception):
    """A step could not do what it should prove; the message says why."""


class TooLongError(CannotError):
    """A command ran past its limit.

    Attributes:
        printed: what it had printed until then.
    """

    def __init__(self, limit: float, printed: str) -> None:
        """Put it into words."""
        super().__init__(f"it ran past its {limit:.0f} s: {_end(printed)}")
        self.printed = printed


@dataclass(frozen=True)
class Line:
    """What one step found out."""

    name: str
    outcome: str
    """``proved``, ``failed`` or ``could not``."""
    detail: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the line for a person."""
        return f"{self.outcome:9}  {self.name:24} {self.seconds:6.1f} s  {self.detail}"


@dataclass(frozen=True)
class Machine:
    """Where and with what the steps run."""

    work: Path
    """Folder that they may write; runs land in ``work/artifacts``."""
    environment: Mapping[str, str]
    deadline: float
    """Of ``time.monotonic``."""
    device: str = "cuda"
    """``cpu`` rehearses the steps where there is no GPU; nothing is proved of one."""

    def run(self, command: Sequence[str], limit: float) -> str:
        """Run a command in the work folder and return its standard output.

        Raises:
            CannotError: it failed, or the time of the whole check was over.
            TooLongError: it ran past its limit or the deadline.
        """
        limit = min(limit, self.deadline - RESERVE_SECONDS - time.monotonic())
        if limit <= 1:
            raise CannotError("the time of the whole check was over")
        try:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=self.work,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TooLongError(limit, (error.stdout or b"").decode(errors="replace")) from error
        if done.returncode:
            raise CannotError(f"exit code {done.returncode}: {_end(done.stdout + done.stderr)}")
        return done.stdout

    def toolkit(self, *arguments: str, limit: float = 150) -> str:
        """Run a toolkit command; see ``run``."""
        return self.run(["-m", "toolkit.cli.main", *arguments], limit)

    def gate(self, record: Path, *arguments: str) -> None:
        """Run a toolkit command on the device whose failed gate is a record too; without the record, see ``run``."""
        try:
            self.toolkit(*arguments, "--device", self.device, "--quiet")
        except CannotError:
            if not record.is_file():
                raise

    def record_file(self, run: str, *path: str) -> Path:
        """Return where a record of a run is."""
        return self.work.joinpath("artifacts", run, *path)

    def record(self, run: str, *path: str) -> dict[str, Any]:
        """Read a JSON record of a run."""
        content: dict[str, Any] = json.loads(self.record_file(run, *path).read_text("utf-8"))
        return content


def _end(output: str) -> str:
    """Return the last lines of what a command printed, as one."""
    return " | ".join(output.strip().splitlines()[-12:])
