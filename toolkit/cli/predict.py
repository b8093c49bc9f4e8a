"""``toolkit predict``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from toolkit.cli.completion import complete_run
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactOption,
    ArtifactsOption,
    BatchSizeOption,
    DeviceOption,
    MaxPixelsOption,
    QuietOption,
    RunOption,
    ThreadsOption,
    TunedOption,
    VerifyKeyOption,
)
from toolkit.cli.place import find_place, is_named
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import ImageError, PredictionError, ToolkitError
from toolkit.printable import printable, printable_lines

if TYPE_CHECKING:
    from toolkit.runtime import Prediction
    from toolkit.runtime.tuning import Purpose


def command(
    first: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE",
            help="A run, by its name or its folder, or a bundle's folder. Left out with --run.",
            autocompletion=complete_run,
        ),
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE_OR_FOLDER", help="Image files, or folders that are searched for them."),
    ] = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with the probability of every class.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table with a header line.")] = False,
    artifact: ArtifactOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    batch_size: BatchSizeOption = None,
    tuned: TunedOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify images with a bundle; needs no PyTorch.

    Prints file, label and probability per image. Files that cannot be decoded, and those for which the model computes
    no finite numbers, are named on standard error and make the exit code 2; the others are classified all the same.
    """
    if as_json and as_csv:
        raise ToolkitError("--json and --csv exclude each other: give one of them.")
    place, images = _divide([first, *(others or [])], run, artifacts)
    bundle = find_place(place, run, artifacts).bundle
    files = list(_expand(images))
    from toolkit.cli.console import reporter, warnings_on_standard_error
    from toolkit.cli.memory import bound_memory
    from toolkit.progress import working

    bound_memory(device)
    with warnings_on_standard_error(), working(reporter(quiet), "opening the bundle"):
        from toolkit.runtime import load
        from toolkit.runtime.predictor import BATCH_SIZE

        predictor = load(
            bundle,
            artifact=artifact,
            device=device,
            threads=threads,
            verify_key=verify_key,
            allow_code=allow_code,
            max_pixels=max_pixels,
            tuned=cast("Purpose | None", tuned),
        )
    at_once = batch_size or (predictor.tuned.batch_size if predictor.tuned else BATCH_SIZE)
    write = _json_line if as_json else _csv_writer(predictor.labels) if as_csv else _text_line
    failed: list[ImageError] = []
    with reporter(quiet or len(files) <= at_once).bar("predict", len(files), "img") as bar:
        for path, outcome in predictor.stream(files, batch_size):
            if isinstance(outcome, ImageError):
                failed.append(outcome)
                typer.echo(f"toolkit: {printable_lines(str(outcome))}", err=True)
            else:
                write(path, outcome)
            bar.advance()
    if failed:
        unpredicted = sum(isinstance(error, PredictionError) for error in failed)
        for count, what in (
            (len(failed) - unpredicted, "images could not be decoded"),
            (unpredicted, "images have no prediction"),
        ):
            if count:
                typer.echo(f"toolkit: {count} of {len(files)} {what}.", err=True)
        raise typer.Exit(2)


def _divide(given: list[str], run: str | None, artifacts: Path) -> tuple[str | None, list[Path]]:
    """Tell the run or bundle from the images: it comes first, unless ``--run`` names it."""
    first, *others = given
    if run is not None and not is_named(first, artifacts):
        return None, [Path(text) for text in given]
    if not others:
        raise ToolkitError(
            f"give images after {first}."
            if is_named(first, artifacts)
            else f"{first} alone is not enough: give a run or a bundle before the images (or with --run), e.g. toolkit "
            f"predict artifacts/latest {first}."
        )
    return first, [Path(text) for text in others]


def _expand(paths: list[Path]) -> Iterator[Path]:
    from toolkit.preprocess import list_folder, not_images

    for path in paths:
        try:
            path.stat()
        except FileNotFoundError as error:
            raise ToolkitError(
                f"there is no {printable(path)}: give image files, or folders that hold some."
            ) from error
        except OSError as error:
            raise ToolkitError(
                f"{printable(path)} cannot be read ({error.strerror}): give image files, or folders that hold some."
            ) from error
        if path.is_dir():
            listing = list_folder(path)
            left_out = not_images(printable(path), [other.name for other in listing.others])
            if not listing.images:
                raise ToolkitError(
                    f"the folder {printable(path)} holds no image files: give a folder with images, or files."
                    + (f" {left_out}." if left_out else "")
                )
            if left_out:
                typer.echo(f"toolkit: {left_out}", err=True)
            yield from listing.images
        else:
            yield path


def _text_line(path: Path, prediction: Prediction) -> None:
    typer.echo(f"{printable(path)}  {printable(prediction.label)}  {prediction.probability:.4f}")


def _json_line(path: Path, prediction: Prediction) -> None:
    probabilities = {
        label: float(value) for label, value in zip(prediction.labels, prediction.probabilities, strict=True)
    }
    record = {
        "file": printable(path),
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": probabilities,
    }
    typer.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))


def _csv_writer(labels: tuple[str, ...]) -> Callable[[Path, Prediction], None]:
    from toolkit.report.csv_table import cell

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *(f"p({printable(label)})" for label in labels)])

    def write(path: Path, prediction: Prediction) -> None:
        writer.writerow(
            [
                cell(printable(path), "./"),
                cell(printable(prediction.label)),
                f"{prediction.probability:.6f}",
                *(f"{value:.6f}" for value in prediction.probabilities),
            ]
        )

    return write
