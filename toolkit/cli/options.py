"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def _one_of(*names: str) -> Callable[[str], str]:
    """Return what refuses any other value, before a command imports anything."""

    def check(value: str) -> str:
        if value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}.")
        return value

    return check


PlaceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|BUNDLE",
        help="A run, by its name or its folder, or a bundle's folder (default: the newest run).",
        show_default=False,
    ),
]
"""Together with ``RunOption`` and ``ArtifactsOption``: see ``toolkit.cli.place.find_place``."""
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--verify-key",
        metavar="FILE",
        help="Public key (PEM) that must have signed the bundle; checked before all else.",
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="The same as the argument, for scripts: a name or a folder."),
]
ArtifactsOption = Annotated[Path, typer.Option("--artifacts", metavar="FOLDER", help="Where runs are kept.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="[cpu|cuda]", help="Where to run.", callback=_one_of("cpu", "cuda")),
]
BenchDeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="[auto|cpu|cuda]",
        help="auto is the CPU, and CUDA where there is one.",
        callback=_one_of("auto", "cpu", "cuda"),
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads (default: all cores of this process).")
]
