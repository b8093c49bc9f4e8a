"""What the terminal shows: progress on standard error, results on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from toolkit.cli.signs_of_life import SignsOfLife
from toolkit.printable import printable_lines
from toolkit.progress import ONE_STEP, Bar, Reporter, Silent


class _Count(ProgressColumn):
    """How much is done of how much; of what has no steps, for how long it has been going on."""

    def render(self, task: Task) -> Text:
        """Return the count, or the seconds."""
        if task.total is None:
            return Text(f"{task.completed:.0f}" if task.completed else f"{task.elapsed or 0:.0f} s")
        return Text(f"{task.completed:.0f}/{task.total:.0f}")


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
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


class _TerminalBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, **fields: str) -> None:
        """Move the bar on and show the fields beside it."""
        extra = {"detail": "  ".join(f"{name} {value}" for name, value in fields.items())} if fields else {}
        self._progress.update(self._task, advance=steps, **extra)  # type: ignore[arg-type]  # rich types its fields as Any by keyword


class Terminal:
    """Progress for a person: bars on a terminal, plain lines elsewhere (a log file, CI)."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._signs = SignsOfLife(self._print)

    def line(self, text: str) -> None:
        """Print one line."""
        self._print(text)
        self._signs.said()

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Show a bar until the block ends; where the output is no terminal, a line now and then if it takes long."""
        if not self._console.is_terminal:
            with self._signs.task(description, total, unit) as watched:
                yield watched
            return
        with self._shown() as progress:
            known = total if total and unit != ONE_STEP else None
            task = progress.add_task(printable_lines(description), total=known, unit=unit, detail="")
            try:
                yield _TerminalBar(progress, task)
            finally:
                if len(progress.tasks) > 1:  # the last look at the display is at the outermost one
                    progress.remove_task(task)

    def _print(self, text: str) -> None:
        self._console.print(printable_lines(text), markup=False)

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        """Show one display for all bars that are open at the same time."""
        if self._progress is not None:
            yield self._progress
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _Count(),
            _Rate(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            self._progress = progress
            try:
                yield progress
            finally:
                self._progress = None


def reporter(quiet: bool) -> Reporter:
    """Return where a command says what it does."""
    return Silent() if quiet else Terminal()


def telling_of_lost_signature(bundle: Path) -> AbstractContextManager[None]:
    """Say on standard error, also of a quiet command, if the block has removed a bundle's signature."""
    from toolkit.api import stages

    return stages.telling_of_lost_signature(bundle, lambda said: typer.echo(f"toolkit: {said}", err=True))


def output() -> Console:
    """Return the console for results. Away from a terminal it is wide enough not to break tables."""
    return Console(
        file=getattr(sys.stdout, "styled", None), highlight=False, width=None if sys.stdout.isatty() else 160
    )
