"""``toolkit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.next_steps import after, closing_line
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactsOption,
    BenchDeviceOption,
    PlaceArgument,
    QuietOption,
    RunOption,
    ThreadsOption,
)
from toolkit.cli.place import find_place
from toolkit.dependencies import require_for_training
from toolkit.errors import MissingDependencyError, ToolkitError
from toolkit.files import require_writable

if TYPE_CHECKING:
    from toolkit.bundle import ArtifactRecord
    from toolkit.progress import Reporter
    from toolkit.run_folder import FinishedRun

BATCH_SIZES = "1,32"
ROUNDS = 7
LARGEST_BATCH = 65_536
"""Images in one call; a million of them takes the memory of every other program with it before anything is measured."""


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: BenchDeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="A,B", help="Batch sizes, separated by commas.")
    ] = BATCH_SIZES,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=2, help="Interleaved rounds; more of them narrow the intervals.")
    ] = ROUNDS,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure speed, latency and test accuracy of every artifact, beside PyTorch itself.

    Artifacts that were not verified are verified first. Writes RUN/bench/bench.json, bench.csv and report.md; exit code
    1 if an artifact failed verification, or if nothing could be measured.
    """
    sizes = batch_sizes_of(batch_sizes)
    finished = find_place(place, run, artifacts).finished_run("bench compares it with PyTorch on the images of its run")
    folder = finished.folder
    bundle = folder.exported()
    from toolkit.cli.console import loading, output, reporter, telling_of_lost_signature
    from toolkit.data.of_run import require_images

    require_images(finished)
    for written in (folder.path, bundle):  # which gets the figures too
        require_writable(written, "The figures are written into the run: copy it to where you may write.")
    progress = reporter(quiet)
    with loading(progress, "PyTorch"):
        from toolkit.bench import BenchOptions, bench_run
        from toolkit.report import print_bench, write_report

    options = BenchOptions(device, threads, sizes, rounds, allow_code=allow_code)
    with telling_of_lost_signature(bundle):
        verified = _verify_first(finished, progress, allow_code)
        report = bench_run(finished, options, reporter=progress)
    files = write_report(folder)
    print_bench(report, output())
    measured = any(row.missing is None for row in report.rows)
    closing_line(folder.bench_file, *files, then=after("bench", folder) if verified and measured else None)
    raise typer.Exit(0 if verified and measured else 1)


def batch_sizes_of(text: str) -> tuple[int, ...]:
    """Read ``--batch-sizes``.

    Raises:
        ToolkitError: it is no list of sizes.
    """
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or max(sizes) > LARGEST_BATCH:
        raise ToolkitError(
            f"--batch-sizes {text!r} is not a list of sizes: give whole numbers of 1 to {LARGEST_BATCH}, separated by "
            "commas, e.g. 1,8,32."
        )
    return sizes


def _verify_first(run: FinishedRun, progress: Reporter, allow_code: bool) -> bool:
    """Verify what may be opened and has no verdict yet; return whether every such artifact has passed."""
    from toolkit.cli.console import output
    from toolkit.report import print_parity

    folder = run.folder.bundle
    if any(artifact.parity is None for artifact in _openable(folder, allow_code)):
        require_for_training("torch", "safetensors")
        from toolkit.verify.run import verify_run

        progress.line("the bundle is not verified yet: verifying it first")
        report = verify_run(run, reporter=progress, allow_code=allow_code)
        print_parity(report, output())
        judged = _openable(folder, allow_code)
        missing = [report.not_judged[artifact.file] for artifact in judged if artifact.file in report.not_judged]
        if missing:
            raise MissingDependencyError(" ".join(dict.fromkeys(missing)))
    verdicts = [artifact.parity for artifact in _openable(folder, allow_code)]
    return all(verdict is not None and verdict.passed for verdict in verdicts)


def _openable(folder: Path, allow_code: bool) -> list[ArtifactRecord]:
    """Return the artifacts that may be opened; the others are named in the table."""
    from toolkit.bundle import Bundle
    from toolkit.formats.opening import not_opened

    bundle = Bundle.open(folder, allow_code=allow_code)
    return [artifact for artifact in bundle.manifest.artifacts if not_opened(bundle, artifact) is None]
