"""What the terminal shows: progress on standard error, results on standard output."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
from rich.console import Console

from toolkit.printable import printable_lines
from toolkit.progress import Reporter
from toolkit.progress.shown import reporter_for


def reporter(quiet: bool) -> Reporter:
    """Return where a command says what it does."""
    return reporter_for(not quiet)


def telling_of_lost_signature(bundle: Path) -> AbstractContextManager[None]:
    """Say on standard error, also of a quiet command, if the block has removed a bundle's signature."""
    from toolkit.api import stages

    return stages.telling_of_lost_signature(bundle, lambda said: typer.echo(f"toolkit: {said}", err=True))


@contextmanager
def warnings_on_standard_error() -> Iterator[None]:
    """Print a warning that the settings are another machine's like every other message of a command."""
    from toolkit.runtime.tuning import NotTunedHereWarning

    with warnings.catch_warnings(record=True, action="always", category=NotTunedHereWarning) as caught:
        yield
    for warning in caught:
        if issubclass(warning.category, NotTunedHereWarning):
            typer.echo(f"toolkit: {printable_lines(str(warning.message))}", err=True)
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)


def output() -> Console:
    """Return the console for results. Away from a terminal it is wide enough not to break tables."""
    return Console(
        file=getattr(sys.stdout, "styled", None), highlight=False, width=None if sys.stdout.isatty() else 160
    )
