"""The tables as plain text cells: the one model behind the terminal and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkit.compare.leak import leak_sentence
from toolkit.report import figures
from toolkit.results import REFERENCE_ROW, BatchTiming, BenchReport, BenchRow, Evaluation

MOST_CONFUSED = 5
UNSETTLED, NOT_WARM = "*", "^"
"""Marks behind a throughput; ``marks`` says in a sentence what they mean."""


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
    Column("cold start s", group="model"),
    Column("memory MB", group="model"),
)
_ROW_CELLS = sum(column.group == "model" for column in BENCH_COLUMNS)


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
            model = ("",) * _ROW_CELLS if position else _model_cells(row)
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


def cost_table(report: BenchReport) -> Table:
    """Return what a row takes beside time; no lines for reports that do not know."""
    columns = (
        Column("model", "left"),
        Column("device", "left"),
        Column("batch"),
        Column("processor ms per image"),
        Column("GFLOP/s"),
        Column("of peak"),
        Column("warm-up s"),
        Column("memory above idle MB"),
    )
    lines = [
        Line(
            (
                row.name,
                row.device,
                str(timing.batch_size),
                figures.milliseconds(timing.processor_seconds_per_image),
                figures.billions(timing.flops_per_second),
                figures.NONE if timing.share_of_peak is None else f"{timing.share_of_peak:.0%}",
                figures.NONE if timing.warm_up_seconds is None else figures.number(timing.warm_up_seconds),
                "" if position else figures.megabytes(row.memory_above_idle_bytes),
            ),
            continues=position > 0,
        )
        for row in report.rows
        for position, timing in enumerate(row.timings)
        if timing.processor_seconds_per_image is not None
    ]
    return Table(columns, tuple(lines))


def marks(report: BenchReport) -> list[str]:
    """Return what the marks behind figures mean, a sentence for each that there is.

    Whoever shows ``bench_table`` shows these too.
    """
    timings = [timing for row in report.rows for timing in row.timings]
    width = "" if report.precision is None else f" than {report.precision:.0%} to either side"
    sentences = []
    if any(timing.settled is False for timing in timings):
        sentences.append(
            f"{UNSETTLED} never settled: the interval was still wider{width} when rounds or time were over. More "
            "--rounds or a quieter machine narrow it."
        )
    if any(timing.warm is False for timing in timings):
        sentences.append(
            f"{NOT_WARM} never warm: the times of calls were still changing when warm-up had to end, so that the "
            "figure may be too low."
        )
    return sentences


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
        figures.estimate(timing.throughput)
        + (UNSETTLED if timing.settled is False else "")
        + (NOT_WARM if timing.warm is False else ""),
        figures.ratio(relative_throughput(report, row, timing.batch_size))
        if timing.ratio is None
        else figures.ratio_interval(timing.ratio),
        figures.milliseconds(timing.latency.p50_seconds),
        figures.milliseconds(timing.latency.p95_seconds),
        figures.milliseconds(timing.latency.p99_seconds),
    )


def _model_cells(row: BenchRow) -> tuple[str, ...]:
    return (
        figures.percent_interval(row.test_accuracy, row.test_accuracy_interval),
        figures.megabytes(row.size_bytes),
        figures.milliseconds(row.load_seconds),
        figures.NONE if row.cold_start_seconds is None else figures.number(row.cold_start_seconds),
        figures.NONE if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f}",
    )


def _median(row: BenchRow, batch_size: int) -> float | None:
    return next((timing.throughput.median for timing in row.timings if timing.batch_size == batch_size), None)
