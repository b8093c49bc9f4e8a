"""``toolkit predict``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.options import AllowCodeOption, BundleArgument, QuietOption, ThreadsOption, VerifyKeyOption
from toolkit.errors import ImageError, ToolkitError

if TYPE_CHECKING:
    from toolkit.runtime import Prediction


def command(
    bundle: BundleArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Image files, or folders that are searched for them."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with the probability of every class.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table with a header line.")] = False,
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", metavar="FORMAT", help="Artifact to use (default: onnx if there is one)."),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="[cpu|cuda]", help="Where to run.")] = "cpu",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images per call of the engine.")] = 32,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify images with a bundle; needs no PyTorch.

    Prints file, label and probability per image. Files that cannot be decoded are named on standard error and make the
    exit code 2; the others are classified all the same.
    """
    from toolkit.cli.console import reporter
    from toolkit.cli.memory import bound_memory
    from toolkit.runtime import load

    if as_json and as_csv:
        raise ToolkitError("--json and --csv exclude each other: give one of them.")
    bound_memory(device)
    predictor = load(
        bundle, artifact=artifact, device=device, threads=threads, verify_key=verify_key, allow_code=allow_code
    )
    files = list(_expand(images))
    write = _json_line if as_json else _csv_writer(predictor.labels) if as_csv else _text_line
    unreadable = 0
    with reporter(quiet or len(files) <= batch_size).bar("predict", len(files), "img") as bar:
        for path, outcome in predictor.stream(files, batch_size):
            if isinstance(outcome, ImageError):
                unreadable += 1
                typer.echo(f"toolkit: {outcome}", err=True)
            else:
                write(path, outcome)
            bar.advance()
    if unreadable:
        typer.echo(f"toolkit: {unreadable} of {len(files)} images could not be decoded.", err=True)
        raise typer.Exit(2)


def _expand(paths: list[Path]) -> Iterator[Path]:
    from toolkit.preprocess import list_images

    for path in paths:
        if path.is_dir():
            images = list_images(path)
            if not images:
                raise ToolkitError(f"the folder {path} holds no image files: give a folder with images, or files.")
            yield from images
        elif path.exists():
            yield path
        else:
            raise ToolkitError(f"there is no {path}: give image files, or folders that hold some.")


def _text_line(path: Path, prediction: Prediction) -> None:
    typer.echo(f"{path}  {prediction.label}  {prediction.probability:.4f}")


def _json_line(path: Path, prediction: Prediction) -> None:
    probabilities = {
        label: float(value) for label, value in zip(prediction.labels, prediction.probabilities, strict=True)
    }
    record = {
        "file": str(path),
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": probabilities,
    }
    typer.echo(json.dumps(record, ensure_ascii=False))


def _csv_writer(labels: tuple[str, ...]) -> Callable[[Path, Prediction], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *(f"p({label})" for label in labels)])

    def write(path: Path, prediction: Prediction) -> None:
        writer.writerow(
            [
                path,
                prediction.label,
                f"{prediction.probability:.6f}",
                *(f"{value:.6f}" for value in prediction.probabilities),
            ]
        )

    return write
