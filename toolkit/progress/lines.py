"""Progress where the output is no terminal, or one that cannot move its cursor: lines, and now and then one more.

A log file, CI and ``| tee`` get no bars. What they get is little: nothing while lines come by themselves, one line
after three seconds without any, and then never ten seconds without one.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from toolkit.progress.shown import Task

FIRST_SECONDS = 3.0
"""After so long without any line, one says what is being done."""
EVERY_SECONDS = 7.0
"""Least time between two such lines; with what a busy machine takes to write one, ten are kept."""


class Lines:
    """Lines on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_line = float("-inf")
        self._last_sign = float("-inf")

    def line(self, text: str, now: float) -> None:
        """Print one line."""
        self._console.print(text, markup=False)
        self._last_line = now

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Print a line of the innermost task, if it is time for one."""
        if not tasks:
            return
        self._last_line = max(self._last_line, tasks[0].started)
        if now - self._last_line >= FIRST_SECONDS and now - self._last_sign >= EVERY_SECONDS:
            self._last_sign = now
            self.line(tasks[-1].text(now), now)
