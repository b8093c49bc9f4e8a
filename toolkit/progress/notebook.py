"""Progress in a notebook: one output below the cell, of lines and of bars. It needs no ipywidgets."""

from __future__ import annotations

import html
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

from toolkit.dependencies import import_optional, is_installed
from toolkit.progress import ONE_STEP
from toolkit.progress.shown import Task

EVERY_SECONDS = 0.5
"""How often the output is updated at most."""
MOST_LINES = 300
"""How many lines an output keeps."""


class Cell:
    """The output of a cell."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._tasks: Sequence[Task] = ()
        self._handle: Any = None
        self._shown: dict[str, str] = {}
        self._shown_at = float("-inf")
        _import_tqdm()

    def line(self, text: str, now: float) -> None:
        """Add a line."""
        self._lines.append(text)
        self._update(now)

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Show a bar below the lines for each task."""
        begun_or_ended = tuple(tasks) != tuple(self._tasks)
        self._tasks = tasks
        if begun_or_ended or now - self._shown_at >= EVERY_SECONDS:
            self._update(now)

    def _update(self, now: float) -> None:
        lines = "\n".join(self._lines)
        shown = f'<pre style="margin:0;white-space:pre-wrap">{html.escape(lines)}</pre>'
        shown += "".join(_bar(task, now) for task in self._tasks)
        plain = "\n".join([*self._lines, *(task.text(now) for task in self._tasks)])
        content = {"text/html": shown, "text/plain": plain}
        if content == self._shown:
            return
        self._shown, self._shown_at = content, now
        if self._handle is None:
            display = import_optional("IPython.display", "this notebook has no IPython").display
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _bar(task: Task, now: float) -> str:
    # Without a value it moves by itself: nobody knows how far it is.
    known = f' value="{task.done}" max="{task.total}"' if task.total and task.unit != ONE_STEP else ""
    return (
        f'<div style="font-family:monospace">{html.escape(task.description)} <progress{known}></progress> '
        f"{html.escape(task.progress(now))}</div>"
    )


def _import_tqdm() -> None:
    """Import what timm's download imports, without its warning that a notebook lacks ipywidgets: nothing here does."""
    if is_installed("tqdm"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            import_optional("tqdm.auto", "there is no tqdm")
