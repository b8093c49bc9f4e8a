"""What the terminal shows: progress on standard error, results on standard output."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path

import typer
from rich.console import Console

from toolkit.progress import Reporter
from toolkit.progress.shown import reporter_for


def reporter(quiet: bool) -> Reporter:
    """Return where a command says what it does."""
    return reporter_for(not quiet)


def telling_of_lost_signature(bundle: Path) -> AbstractContextManager[None]:
    """Say on standard error, also of a quiet command, if the block has removed a bundle's signature."""
    from toolkit.api import stages

    return stages.telling_of_lost_signature(bundle, lambda said: typer.echo(f"toolkit: {said}", err=True))


def output() -> Console:
    """Return the console for results. Away from a terminal it is wide enough not to break tables."""
    return Console(
        file=getattr(sys.stdout, "styled", None), highlight=False, width=None if sys.stdout.isatty() else 160
    )
