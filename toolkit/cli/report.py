"""``toolkit report``."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.next_steps import after, closing_line
from toolkit.cli.options import ArtifactsOption, RunOption
from toolkit.cli.place import find_place, is_place
from toolkit.dependencies import is_installed
from toolkit.errors import ToolkitError
from toolkit.files import expanded

if TYPE_CHECKING:
    from toolkit.report import RunRecords

PURPOSE = "a report is made of the records of its run"


def command(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|BUNDLE",
            help="A run, by its name or its folder (default: the newest run); with --runs, several.",
            show_default=False,
        ),
    ] = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    runs: Annotated[
        bool,
        typer.Option("--runs", help="One page on several runs: those named, 'artifacts/*' too (default: all)."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="With --runs: the page to write (default: report.html in the folder of runs).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the page, the pictures and the Markdown and CSV reports of a run again, and print the comparison table.

    With --runs, write one page that shows several runs side by side.
    """
    given = [*(places or []), *([run] if run is not None else [])]
    if runs:
        _several(given, artifacts, output or artifacts / "report.html")
        return
    if len(places or []) > 1:
        raise ToolkitError(
            f"{len(places or [])} runs are named: --runs shows several on one page; without it name one."
        )
    if output is not None:
        raise ToolkitError("--output is for --runs: the report of one run is written into its folder.")
    folder = find_place(next(iter(places or []), None), run, artifacts).finished_run(PURPOSE).folder
    folder.remove_leftovers()
    if not all(picture.is_file() for picture in folder.pictures) and is_installed("matplotlib"):
        # It was killed when it was complete, and nothing else draws them.
        from toolkit.report import write_pictures

        write_pictures(folder)
    folder.require_benchmark()
    from toolkit.cli.console import output as console
    from toolkit.cli.console import reporter
    from toolkit.progress import working

    with working(reporter(quiet=False), "writing the report"):
        from toolkit.report import print_bench, why_no_page, write_pictures, write_report
        from toolkit.results import BenchReport

        report = BenchReport.load(folder.bench_file, "toolkit bench")
        files = write_report(folder)
        if is_installed("matplotlib"):
            write_pictures(folder)
    print_bench(report, console())
    if (reason := why_no_page()) is not None:
        typer.echo(f"toolkit: {reason}", err=True)
    closing_line(*files, then=after("report", folder))


def _several(given: list[str], artifacts: Path, target: Path) -> None:
    """Write one page on several runs, and say what is not on it."""
    from toolkit.report import write_runs_report

    found, left_out = _measured(given, artifacts)
    for line in left_out:
        typer.echo(f"toolkit: left out: {line}", err=True)
    write_runs_report(found, target, left_out)
    typer.echo(f"wrote {target} on {', '.join(records.name for records in found)}")


def _measured(given: list[str], artifacts: Path) -> tuple[list[RunRecords], list[str]]:
    """Return the records of the runs that were measured, each once, and a sentence on each that cannot be shown.

    What a pattern of the shell names beside them, the link to the newest run or another report, is no run and is passed
    over.
    """
    from toolkit.report import read_records
    from toolkit.run_folder import runs_in

    names = [name for text in given for name in _matches(text)] if given else [str(r.path) for r in runs_in(artifacts)]
    found: dict[Path, RunRecords] = {}
    left_out = []
    for name in names:
        path = expanded(name)
        if os.path.lexists(path) and not is_place(path) and not is_place(artifacts / name):
            continue
        try:
            folder = find_place(name, None, artifacts).finished_run(PURPOSE).folder
            folder.require_benchmark()
            if folder.path.resolve() not in found:
                found[folder.path.resolve()] = read_records(folder)
        except ToolkitError as error:
            if not os.path.lexists(path):
                raise
            left_out.append(str(error))
    return list(found.values()), list(dict.fromkeys(left_out))


def _matches(text: str) -> list[str]:
    """Return what a quoted pattern stands for; a text that is none, or that nothing matches, as it is."""
    return sorted(glob.glob(str(expanded(text)))) or [text]
