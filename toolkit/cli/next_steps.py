"""The last line of a command: what it wrote, and what comes next. One wording for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from toolkit.printable import printable

if TYPE_CHECKING:
    from toolkit.run_folder import RunFolder

NEXT = {"finetune": "export", "export": "verify", "verify": "bench"}
"""Which command comes after which; after the others, predictions."""


def closing_line(*wrote: Path | str, then: str | None = None) -> None:
    """Print what a command wrote and what comes next.

    Args:
        wrote: files and folders, at least one; or one URL.
        then: the command line that comes next; None after a failure that makes any senseless.
    """
    said = f"wrote {_listed(wrote)}"
    typer.echo(said if then is None else f"{said}; next: {then}")


def after(stage: str, run: RunFolder) -> str:
    """Return the command line that comes after a stage of a run."""
    return predict_command(str(run.path)) if stage not in NEXT else run.command(NEXT[stage])


def predict_command(place: str) -> str:
    """Return the command line that classifies images with a run or a bundle."""
    import shlex

    return f"toolkit predict {shlex.quote(place)} IMAGES"


def _listed(paths: Sequence[Path | str]) -> str:
    """Return paths as a list; of several in one folder, their names and the folder once."""
    folders = {path.parent if isinstance(path, Path) else None for path in paths}
    if len(paths) > 1 and len(folders) == 1 and (folder := folders.pop()) is not None:
        *first, last = (printable(Path(path).name) for path in paths)
        return f"{', '.join(first)} and {last} in {printable(folder)}"
    return ", ".join(printable(path) for path in paths)
