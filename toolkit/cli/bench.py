"""``toolkit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    TrackOption,
)
from toolkit.cli.place import find_place
from toolkit.errors import ToolkitError

BATCH_SIZES = "1,32"
ROUNDS = 24
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
        int,
        typer.Option(
            "--rounds",
            metavar="N",
            min=2,
            help="At most so many interleaved rounds; more narrow the intervals.",
        ),
    ] = ROUNDS,
    max_seconds: Annotated[
        float,
        typer.Option("--max-seconds", metavar="N", help="Seconds measured of a row at one batch size at most."),
    ] = 60.0,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Look for the best batch size, threads and parallel streams of each artifact; takes minutes.",
        ),
    ] = False,
    end_to_end: Annotated[
        bool,
        typer.Option("--end-to-end/--no-end-to-end", help="Measure also from the bytes of image files to labels."),
    ] = True,
    allow_code: AllowCodeOption = False,
    track: TrackOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure speed, latency and test accuracy of every artifact, beside PyTorch itself.

    Artifacts that were not verified are verified first. Writes RUN/bench/bench.json, bench.csv, report.md and
    report.html; exit code 1 if an artifact failed verification, or if nothing could be measured.
    """
    sizes = batch_sizes_of(batch_sizes)
    finished = find_place(place, run, artifacts).finished_run("bench compares it with PyTorch on the images of its run")
    from toolkit.api.stages import all_passed, loading, require_measurable, verify_first
    from toolkit.bench.options import BenchOptions
    from toolkit.cli.console import output, reporter, telling_of_lost_signature
    from toolkit.trackers import require_trackers
    from toolkit.trackers import track as log

    progress = reporter(quiet)
    require_trackers(track or (), progress)
    folder, bundle = finished.folder, require_measurable(finished)
    options = BenchOptions(
        device,
        threads,
        sizes,
        rounds,
        allow_code=allow_code,
        max_seconds=max_seconds,
        sweep=sweep,
        end_to_end=end_to_end,
    )
    with loading(progress):
        from toolkit.bench.stage import bench_run
        from toolkit.progress import working
        from toolkit.report import print_bench, print_parity, why_no_page, write_report

    with telling_of_lost_signature(bundle):
        parity = verify_first(finished, progress, allow_code=allow_code)
        if parity is not None:
            print_parity(parity, output())
        verified = all_passed(finished, parity, allow_code=allow_code)
        report = bench_run(finished, options, reporter=progress)
    with working(progress, "writing the report"):
        files = write_report(folder)
    print_bench(report, output())
    if (reason := why_no_page()) is not None:
        typer.echo(f"toolkit: {reason}", err=True)
    log(folder, track or (), progress)
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
