"""Writing the report of a run from its records."""

from __future__ import annotations

from pathlib import Path

from toolkit.files import write_text
from toolkit.report.csv_table import bench_csv
from toolkit.report.markdown import bench_markdown
from toolkit.report.pictures import confusion_picture, learning_curves
from toolkit.results import BenchReport, Evaluation, ParityReport
from toolkit.run_folder import RunFolder


def write_report(run: RunFolder) -> list[Path]:
    """Write ``bench/bench.csv`` and ``bench/report.md`` from ``bench.json``, with parity and evaluation if there.

    Returns:
        The files written.

    Raises:
        RunError: ``bench.json`` is missing, or a record is malformed.
        FileWriteError: the folder cannot be written.
    """
    report = BenchReport.load(run.bench_file, "toolkit bench")
    parity = ParityReport.load(run.parity_file, "toolkit verify") if run.parity_file.exists() else None
    evaluation = Evaluation.load(run.evaluation_file, "toolkit finetune") if run.evaluation_file.exists() else None
    table, text = run.bench / "bench.csv", run.bench / "report.md"
    write_text(table, bench_csv(report))
    write_text(text, bench_markdown(report, parity, evaluation))
    return [table, text]


def write_pictures(run: RunFolder) -> list[Path]:
    """Draw ``learning_curves.png`` and ``confusion.png`` of a fine-tuned run.

    Returns:
        The files written.

    Raises:
        RunError: the run has not finished, or a record is malformed.
        FileWriteError: the folder cannot be written.
    """
    curves, confusion = run.path / "learning_curves.png", run.path / "confusion.png"
    record = run.record()
    learning_curves(run.history_file, curves, best=(record.best_stage, record.best_epoch))
    confusion_picture(run.evaluation(), confusion)
    return [curves, confusion]
