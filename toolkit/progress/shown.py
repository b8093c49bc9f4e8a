"""Progress as a person sees it: a cell of a notebook, bars on a terminal, lines in a log, CI or ``| tee``.

What is being done is one list of tasks; a thread looks at it and has a display show it, whether the work says anything
or not. The displays differ in how they show it, and in nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console

from toolkit.errors import ToolkitError
from toolkit.printable import printable_lines
from toolkit.progress import ONE_STEP, Bar, Reporter, Silent

LOOK_SECONDS = 0.25
"""How often the thread looks."""
LEAST_RATE = 0.1
"""Units per second; below, what took so long says more."""


@dataclass(eq=False)
class Task:
    """What is being done: a bar that somebody else draws."""

    description: str
    total: int
    unit: str
    started: float
    done: int = 0
    fields: dict[str, str] = field(default_factory=dict)

    def advance(self, steps: int = 1, **fields: str) -> None:
        """Count ``steps`` more as done, and keep the fields."""
        self.done += steps
        self.fields = fields or self.fields

    def text(self, now: float) -> str:
        """Return where it is, as a line."""
        return f"{self.description}: {self.progress(now)}"

    def progress(self, now: float) -> str:
        """Return how far it is, how fast, and its fields."""
        seconds = max(now - self.started, 1e-9)
        so_far = f"{seconds:.0f} s so far"
        if self.unit == ONE_STEP:
            return so_far
        if self.total and self.done >= self.total:
            fields = [f"{name} {value}" for name, value in self.fields.items()]
            return ", ".join([f"all {self.total} {self.unit} done", *(fields or ["finishing"])]) + f"; {so_far}"
        of = f"/{self.total}" if self.total else ""
        rate = self.done / seconds
        if self.unit == "B":
            parts = [f"{self.done / 1e6:.1f}{f'/{self.total / 1e6:.1f}' if self.total else ''} MB"]
        else:
            parts = [f"{self.done}{of} {self.unit}"]
            parts.append(so_far if rate < LEAST_RATE else f"{rate:.{0 if rate >= 10 else 1}f} {self.unit}/s")
        parts += [f"{name} {value}" for name, value in self.fields.items()]
        return ", ".join(parts)


class Display(Protocol):
    """Shows lines and tasks. It is called by one thread at a time."""

    def line(self, text: str, now: float) -> None:
        """Show a line, which stays.

        Args:
            text: nothing in it steers a terminal.
            now: seconds of a clock that only goes forward.
        """

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Show what is being done, the outermost task first. Called a few times a second; without tasks at the end."""


class Shown:
    """A reporter for a person.

    The thread lives as long as something is being done. It is a daemon and only shows what is there, so that it keeps
    neither Ctrl-C nor the end of the process waiting. Where nothing can be shown any more (a terminal that was closed,
    a pipe that nobody reads), the work goes on in silence.
    """

    def __init__(self, display: Display, now: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            display: shows it.
            now: seconds of a clock that only goes forward.
        """
        self._display: Display | None = display
        self._now = now
        self._lock = threading.RLock()
        self._tasks: list[Task] = []
        self._idle: threading.Event | None = None

    def line(self, text: str) -> None:
        """Show one line."""
        with self._lock, self._unless_gone() as display:
            if display is not None:
                display.line(printable_lines(text), self._now())

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Show a task until the block ends."""
        task = Task(printable_lines(description), total, unit, self._now())
        try:
            self._begin(task)
            yield task
        finally:
            self._end(task)

    def look(self) -> None:
        """Show what is being done, if anything is."""
        with self._lock:
            if self._tasks:
                self._show()

    def _begin(self, task: Task) -> None:
        with self._lock:
            self._tasks.append(task)
            if self._idle is None:
                self._idle = threading.Event()
                threading.Thread(target=self._watch, args=(self._idle,), name="signs of life", daemon=True).start()
            self._show()

    def _end(self, task: Task) -> None:
        with self._lock:
            if task in self._tasks:  # else Ctrl-C came before it began
                self._tasks.remove(task)
            if not self._tasks and self._idle is not None:
                self._idle.set()
                self._idle = None
            self._show()

    def _show(self) -> None:
        with self._unless_gone() as display:
            if display is not None:
                display.show(tuple(self._tasks), self._now())

    def _watch(self, idle: threading.Event) -> None:
        while not idle.wait(LOOK_SECONDS):
            self.look()

    @contextmanager
    def _unless_gone(self) -> Iterator[Display | None]:
        """Yield the display; no longer once it could not be written to."""
        try:
            yield self._display
        except OSError:
            self._display = None
        except ValueError as error:
            if "closed file" not in str(error):
                raise
            self._display = None


def reporter_for(progress: bool | Reporter) -> Reporter:
    """Return where a call says what it does: a notebook, a terminal, or lines on standard error.

    Args:
        progress: False for nowhere; or a reporter, which is returned.

    Raises:
        ToolkitError: it is neither.
    """
    if not isinstance(progress, bool):
        if callable(getattr(progress, "line", None)) and callable(getattr(progress, "bar", None)):
            return progress
        raise ToolkitError(
            f"progress is {progress!r}: give True, False, or an object with 'line' and 'bar' "
            "(toolkit.progress.Reporter)."
        )
    return Shown(_display()) if progress else Silent()


def _display() -> Display:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_jupyter:
        from toolkit.progress.notebook import Cell

        return Cell()
    if console.is_terminal and not console.is_dumb_terminal:
        from toolkit.progress.terminal import Bars

        return Bars(console)
    from toolkit.progress.lines import Lines

    return Lines(console)
