"""``toolkit batch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from toolkit.batch.options import ENGINES, PART_ROWS, TOP, Engine, Options
from toolkit.cli.completion import complete_run
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactOption,
    ArtifactsOption,
    BatchSizeOption,
    DeviceOption,
    MaxPixelsOption,
    QuietOption,
    ThreadsOption,
    TunedOption,
    VerifyKeyOption,
    one_of,
)
from toolkit.cli.place import find_place
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.batch.job import Outcome
    from toolkit.runtime.tuning import Purpose


def command(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE",
            help="A run, by its name or its folder, or a bundle's folder.",
            autocompletion=complete_run,
        ),
    ],
    images: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A folder, a glob in quotes, a text file with one path a line, or a Parquet file of paths or images.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where the Parquet parts go: new, empty, or begun before."),
    ],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="List the K most probable classes.")] = TOP,
    logits: Annotated[bool, typer.Option("--logits", help="Add the logits of all classes.")] = False,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="NAME", help="Parquet input: the column of paths or image files."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="Parquet input of image files: what says which is which."),
    ] = None,
    part_rows: Annotated[
        int, typer.Option("--part-rows", metavar="N", min=1, help="Images a part; a kill loses no more.")
    ] = PART_ROWS,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="[here|ray]",
            help="In this process, or on a Ray cluster (RAY_ADDRESS names it; else the cores of this machine).",
            callback=one_of(*ENGINES),
        ),
    ] = "here",
    artifact: ArtifactOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    batch_size: BatchSizeOption = None,
    tuned: TunedOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify millions of images into a folder of Parquet files; needs no PyTorch.

    One row an image: path or key, label, probability, the most probable classes, error. A file that cannot be read is a
    row with its error, and the exit code stays 0. A job that was stopped or killed goes on with the same command.
    """
    place = find_place(bundle, None, artifacts).bundle
    from toolkit.batch.inputs import find_input
    from toolkit.batch.job import run_batch
    from toolkit.cli.console import reporter, warnings_on_standard_error
    from toolkit.cli.memory import bound_memory
    from toolkit.cli.next_steps import closing_line
    from toolkit.progress import working

    if engine == "ray" and (threads is not None or tuned is not None or device != "cpu"):
        raise ToolkitError(
            "--engine ray runs an actor with one thread for each core, on CPUs: leave out --threads, --tuned and "
            "--device."
        )
    options = Options(top, logits, part_rows, batch_size, column, key, cast("Engine", engine))
    find_input(images, out, column, key)  # what is wrong with it is said before an engine is opened
    shown = reporter(quiet)
    if engine == "here":  # the processes of Ray would inherit the bound
        bound_memory(device)
    with warnings_on_standard_error(), working(shown, "opening the bundle"):
        from toolkit.runtime import load

        predictor = load(
            place,
            artifact=artifact,
            device=device,
            threads=threads,
            verify_key=verify_key,
            allow_code=allow_code,
            max_pixels=max_pixels,
            tuned=cast("Purpose | None", tuned),
        )
    try:
        outcome = run_batch(predictor, images, out, options, shown)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            "stopped by Ctrl-C; the same command goes on after the parts that are whole."
        ) from error
    typer.echo(_said(outcome))
    closing_line(out)


def _said(outcome: Outcome) -> str:
    failed = f", {outcome.errors} of them with an error instead of a label" if outcome.errors else ""
    made = f" in {outcome.seconds:.1f} s ({outcome.computed / max(outcome.seconds, 1e-9):.0f} img/s)"
    if outcome.computed < outcome.images:
        there = f"; {outcome.images - outcome.computed} were there, {outcome.computed} more"
        made = there + (made if outcome.computed else "")
    images = "1 image" if outcome.images == 1 else f"{outcome.images} images"
    return f"{images} in {'1 part' if outcome.parts == 1 else f'{outcome.parts} parts'}{failed}{made}"
