"""Writing the reports of runs from their records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from toolkit.errors import RunError
from toolkit.files import write_text
from toolkit.report.csv_table import bench_csv
from toolkit.report.markdown import bench_markdown
from toolkit.report.page import run_page, runs_page, why_no_page
from toolkit.report.pictures import confusion_picture, learning_curves
from toolkit.report.records import RunRecords, read_records
from toolkit.run_folder import RunFolder


def write_report(run: RunFolder) -> list[Path]:
    """Write ``bench/bench.csv``, ``bench/report.md`` and ``bench/report.html`` from the records of a run.

    The page is left out where a package that it needs is missing; ``why_no_page`` says which.

    Returns:
        The files written.

    Raises:
        RunError: ``bench.json`` is missing, or a record is malformed.
        BundleError: the bundle's manifest is malformed.
        FileWriteError: the folder cannot be written.
    """
    records = read_records(run)
    contents = {run.bench / "bench.csv": bench_csv(records.bench), run.bench / "report.md": bench_markdown(records)}
    if why_no_page() is None:
        contents[run.report_file] = run_page(records)
    for path, content in contents.items():
        write_text(path, content)
    return list(contents)


def write_runs_report(runs: Sequence[RunRecords], target: Path, left_out: Sequence[str] = ()) -> None:
    """Write one page that shows several runs side by side, with links to their own pages.

    Args:
        runs: what ``read_records`` returned of those that were measured.
        target: HTML file to write.
        left_out: what is not shown, and why, a sentence each.

    Raises:
        RunError: there is no run.
        MissingDependencyError: Jinja2 or matplotlib is not installed.
        FileWriteError: the file cannot be written.
    """
    if not runs:
        raise RunError("there is no run to show that was measured: run 'toolkit bench' first.")
    links = [_link(run.folder, target.parent) for run in runs]
    write_text(target, runs_page(runs, links, left_out))


def _link(run: RunFolder | None, folder: Path) -> str:
    """Return where the page of a run is as a relative URL; nothing for a run without one."""
    if run is None or not run.report_file.is_file():
        return ""
    return quote(os.path.relpath(run.report_file, folder).replace(os.sep, "/"))


def write_pictures(run: RunFolder) -> list[Path]:
    """Draw ``learning_curves.png`` and ``confusion.png`` of a fine-tuned run.

    Returns:
        The files written.

    Raises:
        RunError: the run has not finished, or a record is malformed.
        FileWriteError: the folder cannot be written.
    """
    curves, confusion = run.pictures
    record = run.record()
    learning_curves(run.history_file, curves, best=(record.best_stage, record.best_epoch))
    confusion_picture(run.evaluation(), confusion)
    return [curves, confusion]
