"""Progress for whoever calls from Python: one output that is updated in a notebook, a bar or lines elsewhere."""

from __future__ import annotations

import html
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress

from toolkit.dependencies import import_optional, is_installed
from toolkit.printable import printable_lines
from toolkit.progress import Bar, Reporter, Silent

EVERY_SECONDS = 0.2
"""How often a notebook's output is updated."""
SIGN_OF_LIFE_SECONDS = 10.0
"""How often a bar is a line where there is no terminal."""
MOST_LINES = 300
"""How many lines an output keeps."""


def reporter_for(progress: bool | Reporter) -> Reporter:
    """Return where a call says what it does: a notebook, a terminal, or lines on standard error.

    Args:
        progress: False for nowhere; or a reporter, which is returned.
    """
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return Silent()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_jupyter:
        return Lines(console)
    _import_tqdm()
    return Notebook()


def _import_tqdm() -> None:
    """Import what timm's download imports, without its warning that a notebook lacks ipywidgets: nothing here does."""
    if is_installed("tqdm"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            import_optional("tqdm.auto", "there is no tqdm")


class _Counter:
    """A bar that somebody else draws.

    Attributes:
        done: units so far.
    """

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit, self.done, self._detail = title, total, unit, 0, ""
        self._began = time.monotonic()
        self.moved: Callable[[], object] = lambda: None
        """Called after each step."""

    def advance(self, steps: int = 1, **fields: str) -> None:
        """Count, and keep the fields."""
        self.done += steps
        if fields:
            self._detail = "  ".join(f"{name} {value}" for name, value in fields.items())
        self.moved()

    @property
    def text(self) -> str:
        """How far it is, and how fast."""
        rate = self.done / max(time.monotonic() - self._began, 1e-3)
        return f"{self.done}/{self.total} {self.unit}, {rate:.0f} {self.unit}/s  {self._detail}".rstrip()


class Notebook:
    """One output below the cell, of lines and of the bar that is running. It needs no ipywidgets."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._handle: Any = None
        self._shown_at = 0.0

    def line(self, text: str) -> None:
        """Add a line."""
        self._lines.append(printable_lines(text))
        self._show(None)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Show a bar below the lines until the block ends."""
        counter = _Counter(printable_lines(description), total, unit)
        counter.moved = lambda: self._show_now_and_then(counter)
        self._show(counter)
        try:
            yield counter
        finally:
            self._show(None)

    def _show_now_and_then(self, counter: _Counter) -> None:
        if time.monotonic() - self._shown_at > EVERY_SECONDS:
            self._show(counter)

    def _show(self, counter: _Counter | None) -> None:
        self._shown_at = time.monotonic()
        plain = "\n".join(self._lines)
        shown = f'<pre style="margin:0;white-space:pre-wrap">{html.escape(plain)}</pre>'
        if counter is not None:
            shown += (
                f'<div style="font-family:monospace">{html.escape(counter.title)} '
                f'<progress value="{counter.done}" max="{max(counter.total, 1)}"></progress> '
                f"{html.escape(counter.text)}</div>"
            )
            plain += f"\n{counter.title}: {counter.text}"
        content = {"text/html": shown, "text/plain": plain.strip()}
        if self._handle is None:
            display = import_optional("IPython.display", "this notebook has no IPython").display
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class Lines:
    """Lines on standard error; on a terminal with a bar below them, elsewhere with a line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        """Print one line."""
        self._console.print(printable_lines(text), markup=False)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Show how far it is until the block ends."""
        counter = _Counter(description, total, unit)
        if self._console.is_terminal:
            with Progress(console=self._console, transient=True) as progress:
                task = progress.add_task(printable_lines(description).replace("[", r"\["), total=total)
                counter.moved = lambda: progress.update(task, completed=counter.done)
                yield counter
            return
        said_at = time.monotonic()

        def say() -> None:
            nonlocal said_at
            if time.monotonic() - said_at > SIGN_OF_LIFE_SECONDS:
                said_at = time.monotonic()
                self.line(f"{description}: {counter.text}")

        counter.moved = say
        yield counter
