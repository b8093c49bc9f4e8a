"""Lists that read well on a narrow terminal, and that ``grep`` reads well in a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap

import typer

LEAST_ROOM = 24
"""Columns; where less is left beside what comes first, the text goes below it."""
INDENT = 4


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def echo_hanging(head: str, text: str) -> None:
    """Print what comes first and a text beside it.

    On a terminal the text is wrapped between words, under its own beginning, or below the head where there is too
    little room beside it. Elsewhere it stays one line.

    Args:
        head: as it is, with the blanks behind it.
        text: of any length.
    """
    width = terminal_width()
    if width is None or len(head) + len(text) <= width:
        typer.echo(f"{head}{text}".rstrip())
        return
    indent = len(head) if width - len(head) >= LEAST_ROOM else INDENT
    lines = textwrap.wrap(text, max(width - indent, 1), break_long_words=False, break_on_hyphens=False)
    if indent == len(head):
        typer.echo(f"{head}{lines.pop(0)}")
    else:
        typer.echo(head.rstrip())
    for line in lines:
        typer.echo(f"{' ' * indent}{line}")
