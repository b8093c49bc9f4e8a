"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.completion import complete_format, complete_recipe, complete_run, complete_tracker
from toolkit.cli.grouped_help import MORE, TRUST, WHICH_RUN
from toolkit.devices import AUTO, DEVICE_NAMES, is_device
from toolkit.errors import MOST_THREADS, ToolkitError


def one_of(*names: str) -> Callable[[str | None], str | None]:
    """Return what refuses any other value that is given, before a command imports anything."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}.")
        return value

    return check


def _device_or(*others: str) -> Callable[[str], str]:
    """Return what refuses anything but a device or one of a few other words, before a command imports anything."""

    def check(value: str) -> str:
        if not is_device(value) and value not in others:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(others + DEVICE_NAMES)}.")
        return value

    return check


PlaceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|BUNDLE",
        help="A run, by its name or its folder, or a bundle's folder (default: the newest run).",
        show_default=False,
        autocompletion=complete_run,
    ),
]
"""Together with ``RunOption`` and ``ArtifactsOption``: see ``toolkit.cli.place.find_place``."""
VerifyKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--verify-key",
        metavar="FILE",
        help="Public key (PEM) that must have signed the bundle; checked before all else.",
        rich_help_panel=TRUST,
    ),
]
AllowCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Open artifacts that can carry code (TorchScript, pt2, aoti) of a bundle that is from elsewhere.",
        rich_help_panel=TRUST,
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="The same as the argument, for scripts: a name or a folder.",
        rich_help_panel=WHICH_RUN,
        autocompletion=complete_run,
    ),
]
ArtifactsOption = Annotated[
    Path,
    typer.Option("--artifacts", metavar="FOLDER", help="Where runs are kept.", rich_help_panel=WHICH_RUN),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="A shipped recipe, a TOML file, or auto ('toolkit recipes').",
        autocompletion=complete_recipe,
    ),
]
TimeBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--time-budget",
        metavar="TIME",
        help="Choose resolution, views and epochs to fit, e.g. 20m; the choice is in the recipe.",
    ),
]
NewRunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Name of the run (default: data, backbone and time).",
        rich_help_panel=WHICH_RUN,
        autocompletion=complete_run,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Also log to this tracker, tensorboard or mlflow, now and in later commands of the run; may be repeated.",
        autocompletion=complete_tracker,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="[cpu|cuda|cuda:N]", help="Where to run.", callback=_device_or()),
]
BenchDeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="[auto|cpu|cuda|cuda:N]",
        help="auto is the CPU, and CUDA where there is one.",
        callback=_device_or(AUTO),
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=MOST_THREADS,
        help="CPU threads (default: the cores of this process, or OMP_NUM_THREADS).",
    ),
]
TunedOption = Annotated[
    str | None,
    typer.Option(
        "--tuned",
        metavar="[latency|throughput]",
        help="Use the threads, batch size and streams that 'toolkit bench --sweep' found to be best on this machine.",
        callback=one_of("latency", "throughput"),
    ),
]
ArtifactOption = Annotated[
    str | None,
    typer.Option(
        "--artifact",
        metavar="FORMAT",
        help="Artifact to use (default: onnx if there is one).",
        autocompletion=complete_format,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Images per call (default: 32, or the tuned size)."),
]
PurposeOption = Annotated[
    str,
    typer.Option(
        "--tuned",
        metavar="[latency|throughput]",
        help="Which setting is taken of those that 'toolkit bench --sweep' found to be best.",
        callback=one_of("latency", "throughput"),
    ),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        help="Refuse images of more pixels than this, before they are decoded.",
        rich_help_panel=TRUST,
    ),
]
ToleranceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tolerance",
        metavar="NAME=VALUE",
        help="Replace a limit, e.g. logits_relative=0.01; may be repeated.",
        rich_help_panel=MORE,
    ),
]


def limits(given: list[str] | None) -> dict[str, float]:
    """Read the ``NAME=VALUE`` pairs of ``ToleranceOption``; whether there is such a name is the stage's to say.

    Raises:
        ToolkitError: one is no such pair.
    """
    found = {}
    for text in given or []:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise ToolkitError(
                f"--tolerance {text!r} is not NAME=VALUE with a number, e.g. logits_relative=0.01."
            ) from error
    return found
