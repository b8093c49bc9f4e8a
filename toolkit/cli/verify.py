"""``toolkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.grouped_help import MORE, TRUST
from toolkit.cli.next_steps import after, closing_line, predict_command
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactsOption,
    DeviceOption,
    PlaceArgument,
    QuietOption,
    RunOption,
    ThreadsOption,
    ToleranceOption,
    TrackOption,
    VerifyKeyOption,
    limits,
)
from toolkit.cli.place import Place, find_place
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import ToolkitError
from toolkit.files import require_writable

if TYPE_CHECKING:
    from toolkit.progress import Reporter
    from toolkit.results import ParityReport
    from toolkit.verify.options import Asked


IMAGES = 512
"""Of the test split of a run, unless somebody says how many."""


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            min=1,
            help=f"Test images of the run to compare, drawn per class (default: {IMAGES}).",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare on all test images of the run.")] = False,
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
    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            metavar="N",
            min=1,
            help=f"Refuse images of --data of more pixels than this, before they are decoded (default: {MAX_PIXELS}).",
            rich_help_panel=TRUST,
        ),
    ] = None,
    tolerance: ToleranceOption = None,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect",
            help="Name the first node that diverges in each ONNX artifact that fails.",
            rich_help_panel=MORE,
        ),
    ] = False,
    records: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="Where parity.json and junit.xml go (default: RUN/verify; nowhere for a bundle).",
            rich_help_panel=MORE,
        ),
    ] = None,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    track: TrackOption = None,
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
    if records is not None:
        require_writable(records, "Give --output another folder.")
    _require_used(judged, other, images, full, data, max_pixels)
    from toolkit.cli.console import output, reporter

    progress = reporter(quiet)
    if track:
        _require_tracked(judged, other, track, progress)
    from toolkit.cli.memory import bound_memory
    from toolkit.report import print_parity

    how: Asked = {
        "device": device,
        "threads": threads,
        "reporter": progress,
        "tolerances": tolerances,
        "bisect": bisect,
        "verify_key": verify_key,
        "allow_code": allow_code,
        "max_pixels": max_pixels or MAX_PIXELS,
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
        report = _against_pytorch(judged, None if full else images or IMAGES, how)
    if records is not None:
        from toolkit.verify.records import write_records

        write_records(report, records)
    print_parity(report, output())
    if other is None and judged.run is not None:
        from toolkit.trackers import track as log

        log(judged.run, track or (), progress)
    _say_what_comes_next(judged, other, records, report.passed)
    raise typer.Exit(0 if report.passed else 1)


def _say_what_comes_next(judged: Place, other: Path | None, records: Path | None, passed: bool) -> None:
    """Print what was written; what comes next only where every artifact has passed."""
    run = judged.run if other is None else None
    folders = [*([run.verify] if run is not None else []), *([records] if records is not None else [])]
    wrote = [folder / name for folder in folders for name in ("parity.json", "junit.xml")]
    then = predict_command(str(judged.path)) if run is None else after("verify", run)
    if wrote:
        closing_line(*wrote, then=then if passed else None)
    elif passed:
        typer.echo(f"next: {then}")


def _against_pytorch(judged: Place, images: int | None, how: Asked) -> ParityReport:
    from toolkit.api.stages import require_verifiable
    from toolkit.cli.console import telling_of_lost_signature

    run = judged.finished_run("verify compares it with PyTorch")
    bundle = require_verifiable(run, how["reporter"])
    from toolkit.verify.run import verify_run

    drawn = "all its test images" if images is None else f"{images} of its test images (all, if it has fewer)"
    typer.echo(f"run {run.folder.path}: comparing with PyTorch and the weights of the run, on {drawn}")
    with telling_of_lost_signature(bundle):
        return verify_run(run, images=images, **how)


def _require_tracked(judged: Place, other: Path | None, track: list[str], progress: Reporter) -> None:
    from toolkit.trackers import require_trackers

    if judged.run is None or other is not None:
        raise ToolkitError(
            "--track logs what a run's comparison with PyTorch says, and "
            + (f"{judged.path} is a bundle: leave it out, or give the run." if other is None else "--against is none.")
        )
    require_trackers(track, progress)


def _of_run(judged: Place) -> str:
    """Return how to have a bundle compared with PyTorch, where it lies in the folder of its run."""
    from toolkit.run_folder import RunFolder

    run = RunFolder(judged.path.parent)
    return f" (give the run, {run.path}, for that)" if run.record_file.exists() else ""


def _require_used(
    judged: Place, other: Path | None, images: int | None, full: bool, data: Path | None, max_pixels: int | None
) -> None:
    """Refuse what would have no effect."""
    if images is not None and full:
        raise ToolkitError("--full compares on all test images, and --images on some: give one of them.")
    given = "--full" if full else "--images" if images is not None else None
    if given and (judged.run is None or other is not None):
        raise ToolkitError(
            f"{given} draws from the test images of a run that is compared with PyTorch, and "
            + (f"{judged.path} is a bundle: leave it out, or give the run." if other is None else "--against does not.")
        )
    if max_pixels is not None and data is None:
        raise ToolkitError(
            "--max-pixels limits the images of --data, and none are given: those of a run have the limit of its "
            "recipe, and golden samples are no image files."
        )


def _require_sense(judged: Place, other: Path | None, data: Path | None, bisect: bool) -> None:
    if data is not None and other is None:
        raise ToolkitError("--data gives images for --against: name the other bundle too.")
    if data is not None and not data.is_dir():
        raise ToolkitError(f"--data {data} is no folder: give one of images.")
    if bisect and judged.run is None and other is None:
        raise ToolkitError(
            "--bisect needs what is right, node by node: the run instead of its bundle, or another bundle (--against)."
        )
