"""How a stage tells a person where it is: a port that stages call, and ``progress/shown.py`` implements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running task of known length."""

    def advance(self, steps: int = 1, **fields: str) -> None:
        """Count ``steps`` more as done; ``fields`` are shown beside the bar (``loss="0.12"``)."""


class Reporter(Protocol):
    """Where a stage says what it does. Nothing here may change what a stage computes."""

    def line(self, text: str) -> None:
        """Print one line of progress."""

    def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Open a progress bar over ``total`` units; it closes with the ``with`` block.

        One over a single step (``ONE_STEP``) is work of unknown length. Bars may be nested.
        """


ONE_STEP = "step"
"""The unit of a bar over one step: work that says nothing until it is done."""


@contextmanager
def working(reporter: Reporter, description: str) -> Iterator[None]:
    """Have the reporter show that something is being done, for the length of the block.

    For what takes seconds and has no steps to count, so that nobody looks at a screen on which nothing happens.
    """
    with reporter.bar(description, 1, ONE_STEP) as bar:
        yield
        bar.advance()


class _SilentBar:
    def advance(self, steps: int = 1, **fields: str) -> None:
        """Do nothing."""


class Silent:
    """Says nothing: the default of every stage when it is called from Python."""

    def line(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Yield a bar that does nothing."""
        yield _SilentBar()
