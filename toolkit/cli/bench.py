"""``toolkit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.options import AllowCodeOption, ArtifactsOption, QuietOption, RunOption, ThreadsOption
from toolkit.errors import MissingDependencyError, ToolkitError

if TYPE_CHECKING:
    from toolkit.bundle import ArtifactRecord
    from toolkit.progress import Reporter
    from toolkit.runs import FinishedRun


def command(
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: Annotated[
        str, typer.Option("--device", metavar="[auto|cpu|cuda]", help="auto is the CPU, and CUDA where there is one.")
    ] = "auto",
    threads: ThreadsOption = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="A,B", help="Batch sizes, separated by commas.")
    ] = "1,32",
    rounds: Annotated[
        int, typer.Option("--rounds", min=2, help="Interleaved rounds; more of them narrow the intervals.")
    ] = 7,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure speed, latency and test accuracy of every artifact, beside PyTorch itself.

    Artifacts that were not verified are verified first. Writes RUN/bench/bench.json, bench.csv and report.md; exit code
    1 if an artifact failed verification, or if nothing could be measured.
    """
    from toolkit.bench import BenchOptions, bench_run
    from toolkit.cli.console import output, reporter, telling_of_lost_signature
    from toolkit.report import print_bench, write_report
    from toolkit.runs import FinishedRun, find_run

    folder = find_run(run, artifacts)
    options = BenchOptions(device, threads, _sizes(batch_sizes), rounds, allow_code=allow_code)
    progress = reporter(quiet)
    with telling_of_lost_signature(folder.bundle):
        finished = FinishedRun.of(folder)
        verified = _verify_first(finished, progress, allow_code)
        report = bench_run(finished, options, reporter=progress)
    files = write_report(folder)
    print_bench(report, output())
    typer.echo("wrote " + ", ".join(str(path) for path in (folder.bench_file, *files)))
    measured = any(row.missing is None for row in report.rows)
    raise typer.Exit(0 if verified and measured else 1)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ToolkitError(
            f"--batch-sizes {text!r} is not a list of sizes: give whole numbers of 1 or more, separated by commas, "
            "e.g. 1,8,32."
        )
    return sizes


def _verify_first(run: FinishedRun, progress: Reporter, allow_code: bool) -> bool:
    """Verify what may be opened and has no verdict yet; return whether every such artifact has passed."""
    from toolkit.cli.console import output
    from toolkit.report import print_parity
    from toolkit.verify.run import verify_run

    folder = run.folder.bundle
    if any(artifact.parity is None for artifact in _openable(folder, allow_code)):
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
