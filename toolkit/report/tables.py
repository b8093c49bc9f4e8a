"""The tables as plain text cells: the one model behind the terminal and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkit.compare.leak import leak_sentence
from toolkit.report import figures
from toolkit.results import BatchTiming, BenchReport, BenchRow, Evaluation

REFERENCE_ROW = "eager"
"""The row that ratios are relative to, on the same device and at the same batch size."""
MOST_CONFUSED = 5


@dataclass(frozen=True)
class Column:
    """One column."""

    header: str
    align: Literal["left", "right"] = "right"
    group: Literal["key", "speed", "model"] = "key"
    """``key`` names the line; the others can be shown as two narrower tables, each with the key."""
    notice: bool = False
    """Where a line without figures says so."""


@dataclass(frozen=True)
class Line:
    """One line: a cell per column, or only the key and the reason why there are no figures."""

    cells: tuple[str, ...]
    missing: str | None = None
    """If set, ``cells`` holds the key columns alone."""
    continues: bool = False
    """True for the second and later lines of one row: the key repeats, and the cells of the ``model`` group are
    empty."""


@dataclass(frozen=True)
class Table:
    """Columns and lines."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


BENCH_COLUMNS = (
    Column("model", "left"),
    Column("device", "left"),
    Column("batch", group="speed"),
    Column("img/s [95%]", group="speed", notice=True),
    Column(f"vs {REFERENCE_ROW}", group="speed"),
    Column("p50 ms", group="speed"),
    Column("p95 ms", group="speed"),
    Column("p99 ms", group="speed"),
    Column("test accuracy [95%]", group="model", notice=True),
    Column("size MB", group="model"),
    Column("load ms", group="model"),
    Column("memory MB", group="model"),
)


def bench_table(report: BenchReport) -> Table:
    """Return the comparison table.

    One line per row and batch size, one line with its reason for a row without figures.
    """
    lines: list[Line] = []
    for row in report.rows:
        if row.missing is not None:
            lines.append(Line((row.name, row.device), missing=row.missing))
            continue
        for position, timing in enumerate(row.timings):
            model = ("", "", "", "") if position else _model_cells(row)
            lines.append(
                Line((row.name, row.device, *_speed_cells(report, row, timing), *model), continues=position > 0)
            )
    return Table(BENCH_COLUMNS, tuple(lines))


def relative_throughput(report: BenchReport, row: BenchRow, batch_size: int) -> float | None:
    """Return a row's throughput divided by that of ``eager`` on the same device; None where either was not measured."""
    own = _median(row, batch_size)
    reference = next(
        (other for other in report.rows if other.name == REFERENCE_ROW and other.device == row.device), None
    )
    base = None if reference is None else _median(reference, batch_size)
    return None if own is None or not base else own / base


def class_table(evaluation: Evaluation, worst: int | None = None) -> Table:
    """Return precision and recall per class in the labels' order, or of the ``worst`` by recall, worst first."""
    scores = list(evaluation.classes)
    if worst is not None:
        scores = sorted(
            (score for score in scores if score.recall is not None),
            key=lambda score: (score.recall, score.precision or 0.0),
        )[:worst]
    columns = (Column("class", "left"), Column("test images"), Column("precision"), Column("recall"))
    lines = tuple(
        Line((score.label, str(score.support), figures.percent(score.precision), figures.percent(score.recall)))
        for score in scores
    )
    return Table(columns, lines)


def most_confused(evaluation: Evaluation, count: int = MOST_CONFUSED) -> list[tuple[str, str, int]]:
    """Return the most frequent mistakes: true label, predicted label, test images."""
    labels = [score.label for score in evaluation.classes]
    mistakes = [
        (labels[true], labels[predicted], images)
        for true, row in enumerate(evaluation.confusion)
        for predicted, images in enumerate(row)
        if true != predicted and images
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:count]


def headline(evaluation: Evaluation) -> str:
    """Return the evaluation in one line."""
    top5 = "" if evaluation.top5 is None else f", top-5 {figures.percent(evaluation.top5)}"
    return (
        f"top-1 {figures.percent_interval(evaluation.top1, evaluation.top1_interval)}{top5} on {evaluation.images} "
        f"{evaluation.split} images; "
        f"loss {evaluation.loss:.3f}, calibration error {evaluation.expected_calibration_error:.3f}"
    )


def remarks(evaluation: Evaluation) -> list[str]:
    """Return what must be known to read the accuracy, a sentence each without its full stop."""
    leak = evaluation.leak
    return [] if leak is None else [leak_sentence(leak, evaluation.images, evaluation.split)]


def _speed_cells(report: BenchReport, row: BenchRow, timing: BatchTiming) -> tuple[str, ...]:
    return (
        str(timing.batch_size),
        figures.estimate(timing.throughput),
        figures.ratio(relative_throughput(report, row, timing.batch_size)),
        figures.milliseconds(timing.latency.p50_seconds),
        figures.milliseconds(timing.latency.p95_seconds),
        figures.milliseconds(timing.latency.p99_seconds),
    )


def _model_cells(row: BenchRow) -> tuple[str, ...]:
    return (
        figures.percent_interval(row.test_accuracy, row.test_accuracy_interval),
        figures.megabytes(row.size_bytes),
        figures.milliseconds(row.load_seconds),
        figures.NONE if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f}",
    )


def _median(row: BenchRow, batch_size: int) -> float | None:
    return next((timing.throughput.median for timing in row.timings if timing.batch_size == batch_size), None)
