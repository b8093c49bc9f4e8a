"""Signs of life where the output is no terminal: a line where there was none for a while, from a thread of its own.

A log file, CI and ``| tee`` get no bars. What they get is little: nothing while lines come by themselves, one line
after three seconds without any, and another every ten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from toolkit.progress import ONE_STEP, Bar

FIRST_SECONDS = 3.0
"""After so long without any line, one says what is being done."""
EVERY_SECONDS = 10.0
"""Least time between two such lines."""
LOOK_SECONDS = 0.5


@dataclass
class Task:
    """What is being done."""

    description: str
    total: int
    unit: str
    started: float
    done: int = 0
    fields: dict[str, str] = field(default_factory=dict)

    def text(self, now: float) -> str:
        """Return where it is, as a line."""
        seconds = max(now - self.started, 1e-9)
        if self.unit == ONE_STEP:
            return f"{self.description}: {seconds:.0f} s so far"
        if self.total and self.done >= self.total:
            return f"{self.description}: all {self.total} {self.unit} done, finishing; {seconds:.0f} s so far"
        of = f"/{self.total}" if self.total else ""
        parts = [f"{self.done}{of} {self.unit}"]
        if self.unit == "B":
            parts = [f"{self.done / 1e6:.1f}{f'/{self.total / 1e6:.1f}' if self.total else ''} MB"]
        elif self.done:
            parts.append(f"{self.done / seconds:.{0 if self.done >= 10 * seconds else 1}f} {self.unit}/s")
        parts += [f"{name} {value}" for name, value in self.fields.items()]
        return f"{self.description}: {', '.join(parts)}"


class SignsOfLife:
    """Watches what is being done, and prints a line of it when nothing was printed for too long.

    The thread lives as long as something is being done. It is a daemon and only writes lines, so that it keeps neither
    Ctrl-C nor the end of the process waiting.
    """

    def __init__(self, write: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            write: prints a line.
            now: seconds of a clock that only goes forward.
        """
        self._write = write
        self._now = now
        self._lock = threading.Lock()
        self._tasks: list[Task] = []
        self._last_line = self._last_sign = now() - EVERY_SECONDS
        self._idle: threading.Event | None = None

    def said(self) -> None:
        """Note that a line was printed."""
        self._last_line = self._now()

    @contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Watch a task for the length of the block."""
        task = Task(description, total, unit, self._now())
        with self._lock:
            if not self._tasks:
                self._last_line = max(self._last_line, task.started)
                self._idle = threading.Event()
                threading.Thread(target=self._watch, args=(self._idle,), name="signs of life", daemon=True).start()
            self._tasks.append(task)
        try:
            yield _Watched(task)
        finally:
            with self._lock:
                self._tasks.remove(task)
                if not self._tasks and self._idle is not None:
                    self._idle.set()

    def look(self) -> None:
        """Print a line if it is time for one."""
        now = self._now()
        with self._lock:
            if not self._tasks or now - self._last_line < FIRST_SECONDS or now - self._last_sign < EVERY_SECONDS:
                return
            text = self._tasks[-1].text(now)
            self._last_line = self._last_sign = now
        self._write(text)

    def _watch(self, idle: threading.Event) -> None:
        while not idle.wait(LOOK_SECONDS):
            self.look()


class _Watched:
    def __init__(self, task: Task) -> None:
        self._task = task

    def advance(self, steps: int = 1, **fields: str) -> None:
        """Count ``steps`` more as done."""
        self._task.done += steps
        self._task.fields = fields or self._task.fields
