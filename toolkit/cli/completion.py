"""What a shell completes: names of runs, formats, recipes and data sources. Never imports PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the runs in the folder of runs; where none fits, the shell completes paths."""
    from toolkit.run_folder import ARTIFACTS, LATEST, runs_in

    root = Path(ctx.params.get("artifacts") or ARTIFACTS)
    names = [run.name for run in runs_in(root)]
    return _starting([*names, *([LATEST] if names else [])], incomplete)


def complete_formats(incomplete: str) -> list[str]:
    """Return lists of formats that go on from what was typed: the last name of ``onnx,open`` is completed."""
    from toolkit.formats.registry import formats

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in _starting(formats(), last) if name not in taken]


def complete_format(incomplete: str) -> list[str]:
    """Return the names of formats."""
    from toolkit.formats.registry import formats

    return _starting(formats(), incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Return the names of the shipped recipes; where none fits, the shell completes paths."""
    from toolkit.recipe import AUTO, shipped_recipes

    return _starting([AUTO, *shipped_recipes()], incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
