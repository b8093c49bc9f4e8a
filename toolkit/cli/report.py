"""``toolkit report``."""

from __future__ import annotations

from pathlib import Path

import typer

from toolkit.cli.options import ArtifactsOption, RunOption


def command(run: RunOption = None, artifacts: ArtifactsOption = Path("artifacts")) -> None:
    """Write the pictures and the Markdown and CSV reports of a run again, and print the comparison table."""
    from toolkit.cli.console import output
    from toolkit.report import print_bench, write_pictures, write_report
    from toolkit.results import BenchReport
    from toolkit.runs import find_run

    folder = find_run(run, artifacts)
    folder.remove_leftovers()
    write_pictures(folder)
    files = write_report(folder)
    print_bench(BenchReport.load(folder.bench_file, "toolkit bench"), output())
    typer.echo("wrote " + ", ".join(str(path) for path in files))
