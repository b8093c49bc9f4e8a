"""``toolkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactsOption,
    DeviceOption,
    MaxPixelsOption,
    PlaceArgument,
    QuietOption,
    RunOption,
    ThreadsOption,
    ToleranceOption,
    VerifyKeyOption,
    limits,
)
from toolkit.cli.place import Place, find_place
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.dependencies import require_for_training
from toolkit.errors import MissingDependencyError, ToolkitError

if TYPE_CHECKING:
    from toolkit.results import ParityReport
    from toolkit.verify.options import Asked


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to compare, drawn per class.")] = 512,
    full: Annotated[bool, typer.Option("--full", help="Compare on all test images.")] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="OTHER", help="Compare with this bundle, or that of this run; needs no PyTorch."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Images for --against (default: the golden ones of both)."),
    ] = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    tolerance: ToleranceOption = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first node that diverges in each ONNX artifact that fails.")
    ] = False,
    records: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="Where parity.json and junit.xml go (default: RUN/verify; nowhere for a bundle).",
        ),
    ] = None,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prove that every artifact computes what it should.

    With a run: what PyTorch computes, on real test images and edge inputs, at batches of 1 to 128; writes
    RUN/verify/parity.json and junit.xml. With a bundle's folder: what its golden samples say, without PyTorch. The
    first line says which. Either way the same image must
    give the same outputs whatever its place, neighbours and threads. Exit code 1 if anything fails.
    """
    from toolkit.compare.tolerances import tolerance_for

    tolerances = limits(tolerance)
    tolerance_for("float32", tolerances)  # a name that is none is said at once
    judged = find_place(place, run, artifacts)
    other = None if against is None else find_place(against, None, artifacts).bundle
    _require_sense(judged, other, data, bisect)
    from toolkit.cli.console import output, reporter
    from toolkit.cli.memory import bound_memory
    from toolkit.report import print_parity

    how: Asked = {
        "device": device,
        "threads": threads,
        "reporter": reporter(quiet),
        "tolerances": tolerances,
        "bisect": bisect,
        "verify_key": verify_key,
        "allow_code": allow_code,
        "max_pixels": max_pixels,
    }
    if other is not None or judged.run is None:
        bound_memory(device)
    if other is not None:
        from toolkit.verify.against import verify_against
        from toolkit.verify.options import VerifyOptions

        typer.echo(f"{judged.bundle}: comparing with the bundle {other}")
        report = verify_against(judged.bundle, other, data=data, options=VerifyOptions(**how))
    elif judged.run is None:
        from toolkit.verify.bundle import verify_bundle

        typer.echo(f"bundle {judged.path}: comparing with its own golden samples, not with PyTorch{_of_run(judged)}")
        report = verify_bundle(judged.path, **how)
    else:
        report = _against_pytorch(judged, None if full else images, how)
    if records is not None:
        from toolkit.verify.records import write_records

        write_records(report, records)
    print_parity(report, output())
    raise typer.Exit(0 if report.passed else 1)


def _against_pytorch(judged: Place, images: int | None, how: Asked) -> ParityReport:
    from toolkit.cli.console import telling_of_lost_signature
    from toolkit.data.of_run import require_images

    run = judged.finished_run("verify compares it with PyTorch")
    bundle = run.folder.exported()
    require_images(run)
    try:
        require_for_training("torch", "safetensors")
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"{error} Or give the bundle, {bundle}, to compare it with its golden samples."
        ) from error
    from toolkit.verify.run import verify_run

    drawn = "all its test images" if images is None else f"{images} of its test images (all, if it has fewer)"
    typer.echo(f"run {run.folder.path}: comparing with PyTorch and the weights of the run, on {drawn}")
    with telling_of_lost_signature(bundle):
        return verify_run(run, images=images, **how)


def _of_run(judged: Place) -> str:
    """Return how to have a bundle compared with PyTorch, where it lies in the folder of its run."""
    from toolkit.runs import RunFolder

    run = RunFolder(judged.path.parent)
    return f" (give the run, {run.path}, for that)" if run.record_file.exists() else ""


def _require_sense(judged: Place, other: Path | None, data: Path | None, bisect: bool) -> None:
    if data is not None and other is None:
        raise ToolkitError("--data gives images for --against: name the other bundle too.")
    if data is not None and not data.is_dir():
        raise ToolkitError(f"--data {data} is no folder: give one of images.")
    if bisect and judged.run is None and other is None:
        raise ToolkitError(
            "--bisect needs what is right, node by node: the run instead of its bundle, or another bundle (--against)."
        )
