"""What a shell completes: names of runs, formats, recipes and trackers. Never imports PyTorch.

What is wrong, say with a package that adds formats, is said by the command itself, and not in the middle of a line that
somebody is typing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from toolkit.errors import ToolkitError


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the runs in the folder of runs; where none fits, the shell completes paths."""
    from toolkit.run_folder import ARTIFACTS, LATEST, runs_in

    root = Path(ctx.params.get("artifacts") or ARTIFACTS)

    def names() -> list[str]:
        found = [run.name for run in runs_in(root)]
        return [*found, *([LATEST] if found else [])]

    return _starting(names, incomplete)


def complete_formats(incomplete: str) -> list[str]:
    """Return lists of formats that go on from what was typed: the last name of ``onnx,open`` is completed."""
    from toolkit.formats.registry import formats

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in _starting(formats, last) if name not in taken]


def complete_format(incomplete: str) -> list[str]:
    """Return the names of formats."""
    from toolkit.formats.registry import formats

    return _starting(formats, incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Return the names of the shipped recipes; where none fits, the shell completes paths."""
    from toolkit.recipe import AUTO, shipped_recipes

    return _starting(lambda: (AUTO, *shipped_recipes()), incomplete)


def complete_tracker(incomplete: str) -> list[str]:
    """Return the names of trackers."""
    from toolkit.trackers.registry import trackers

    return _starting(trackers, incomplete)


def _starting(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except (ToolkitError, OSError):
        return []
