"""``toolkit report``."""

from __future__ import annotations

from pathlib import Path

from toolkit.cli.next_steps import after, closing_line
from toolkit.cli.options import ArtifactsOption, PlaceArgument, RunOption
from toolkit.cli.place import find_place


def command(place: PlaceArgument = None, run: RunOption = None, artifacts: ArtifactsOption = Path("artifacts")) -> None:
    """Write the pictures and the Markdown and CSV reports of a run again, and print the comparison table."""
    folder = find_place(place, run, artifacts).finished_run("a report is made of the records of its run").folder
    folder.require_benchmark()
    from toolkit.cli.console import Terminal, output
    from toolkit.progress import working

    with working(Terminal(), "writing the report"):
        from toolkit.report import print_bench, write_pictures, write_report
        from toolkit.results import BenchReport

        folder.remove_leftovers()
        report = BenchReport.load(folder.bench_file, "toolkit bench")
        files = write_report(folder)
        write_pictures(folder)
    print_bench(report, output())
    closing_line(*files, then=after("report", folder))
