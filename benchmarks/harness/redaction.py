"""Command lines as a report may show them: no path tells where it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path


def shown(argument: str) -> str:
    """Return an argument as a report may show it: of an absolute path the last name only."""
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    return f"{option}{equals}.../{path.name}" if path.is_absolute() else argument


def shown_line(arguments: Iterable[str]) -> str:
    """Return arguments as a report may show them, as one line for a shell."""
    return shlex.join(map(shown, arguments))
