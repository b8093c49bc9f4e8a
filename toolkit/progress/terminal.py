"""Progress on a terminal: lines, and below them a bar for each task, in motion as long as it is being done."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from toolkit.progress import ONE_STEP
from toolkit.progress.shown import Task


class _Count(ProgressColumn):
    """How much is done of how much; of what has no steps, for how long it has been going on."""

    def render(self, task: RichTask) -> Text:
        """Return the count, or the seconds."""
        if task.total is None:
            return Text(f"{task.completed:.0f}" if task.completed else f"{task.elapsed or 0:.0f} s")
        return Text(f"{task.completed:.0f}/{task.total:.0f}")


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: RichTask) -> Text:
        """Return the speed with its unit."""
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed or unit == ONE_STEP:
            return Text("")
        return Text(
            f"{speed / 1e6:.1f} MB/s"
            if unit == "B"
            else f"{speed:.0f} {unit}/s"
            if speed >= 10
            else f"{speed:.1f} {unit}/s"
        )


class Bars:
    """Lines and bars on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._now = 0.0
        self._bars: dict[Task, TaskID] = {}

    def line(self, text: str, now: float) -> None:
        """Print one line, above the bars."""
        self._now = now
        self._console.print(text, markup=False)

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw a bar for each task; without tasks remove them all."""
        self._now = now
        if not tasks:
            self._close()
            return
        progress = self._progress or self._open()
        for ended in [task for task in self._bars if task not in tasks]:
            progress.remove_task(self._bars.pop(ended))
        for task in tasks:
            if task not in self._bars:
                total = task.total if task.total and task.unit != ONE_STEP else None
                self._bars[task] = progress.add_task(task.description, total=total, unit=task.unit, detail="")
            detail = "  ".join(f"{name} {value}" for name, value in task.fields.items())
            completed = 0 if task.unit == ONE_STEP else task.done
            progress.update(self._bars[task], completed=completed, detail=detail)
        progress.refresh()

    def _open(self) -> Progress:
        columns = (
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _Count(),
            _Rate(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        # What others print comes above the bars, but not what is on its way to a file.
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._progress = Progress(
            *columns,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=on_terminal,
            get_time=lambda: self._now,
        )
        self._progress.start()
        return self._progress

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._bars = None, {}
