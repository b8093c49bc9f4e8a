"""What a tracker is: a place outside the run folder where parameters, curves, texts and pictures of runs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Value = str | int | float | bool
"""Of a hyperparameter."""
FILE = "trackers.json"
"""In the run folder: where it is logged."""


@dataclass(frozen=True)
class TrackedRun:
    """The run of toolkit that is logged."""

    name: str
    folder: Path
    """Its own."""
    root: Path
    """Of all runs, in which ``folder`` lies."""
    copied: bool = False
    """Whether it is a copy of another run beside it, whose log the reference names. What lies outside of ``folder`` is
    that other run's then, and this one begins a new log."""


class Log(Protocol):
    """One run as a tracker keeps it, open for writing.

    Any method may raise anything: the tracker is then left out for the rest of the command, in one sentence, and the
    work goes on. What it has missed it is told by the next command.
    """

    reference: str
    """By which ``Tracker.open`` finds this again in another process; kept in the run folder, so it holds no secret.
    Another one than ``open`` was given says that this log is a new one."""

    def last_step(self, name: str) -> int:
        """Return the last step of a figure that is there already; 0 if there is none."""

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Write hyperparameters, by their dotted names."""

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Write figures, by names like ``train/loss``, all of them or none.

        Args:
            values: may be infinite or not a number.
            step: 1 or more: the epoch through all stages, or how often this was measured.
        """

    def text(self, name: str, markdown: str, step: int) -> None:
        """Write a text in Markdown."""

    def picture(self, name: str, png: Path, step: int) -> None:
        """Write a picture, which is a PNG file."""

    def close(self, *, finished: bool) -> None:
        """End this. What was written before is kept whether or not a process comes to this.

        Args:
            finished: whether the command that logged has ended well.
        """


class Tracker(Protocol):
    """A kind of tracker. Its class is made without arguments, in processes that never use it too."""

    name: str
    """As in ``--track NAME``."""
    title: str
    """As in a sentence."""

    def unavailable(self) -> str | None:
        """Return why it cannot be used here, as a phrase that says what to install; None if it can."""

    def open(self, run: TrackedRun, reference: str | None) -> Log:
        """Open a run's log for writing.

        Args:
            run: what is logged.
            reference: of the log that goes on; None for a new one, which replaces any older one of the same run. One
                that is gone is replaced by a new one, too, unless somebody has removed it on purpose.
        """
