"""The tables as plain text cells: the one model behind the terminal and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.compare.leak import leak_sentence
from toolkit.report import figures
from toolkit.results import REFERENCE_ROW, BatchTiming, BenchReport, BenchRow, Evaluation

MOST_CONFUSED = 5
UNSETTLED, NOT_WARM = "*", "^"
"""Marks behind a throughput; ``marks`` says in a sentence what they mean."""
MOSTLY = 0.5
"""Where more than this share of the figures would bear a mark, none does, and the sentence speaks of all of them."""
FULL_LEVEL = 0.95
"""Of the intervals, where there were rounds enough."""
FEWEST_TO_FORESEE = 6
"""Rounds from which on the width of an interval says how it goes on."""
MOST_ROUNDS = 1000
"""That ``toolkit bench`` takes; what would need more needs a quieter machine."""
SECONDS_OF_A_ROW = 60.0
"""``--max-seconds`` where nobody says."""


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
        Column("of float32 peak"),
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

    Where most figures would bear a mark it says nothing of one, and the sentence says how many they are. Whoever shows
    ``bench_table`` shows these too.
    """
    timings = _timings(report)
    unsettled = [timing for timing in timings if timing.settled is False]
    cold = [timing for timing in timings if timing.warm is False]
    few = [timing.throughput for timing in timings if timing.throughput.interval.level < FULL_LEVEL]
    sentences = []
    if unsettled:
        width = "" if report.precision is None else f" than {report.precision:.0%} to either side"
        sentences.append(
            f"{_marked(report, UNSETTLED, unsettled)} never settled: the interval was still wider{width} when rounds "
            f"or time were over. It holds all the same. {_to_settle(report, unsettled)}"
        )
    if cold:
        sentences.append(
            f"{_marked(report, NOT_WARM, cold)} never became warm: the times of calls were still changing when warm-up "
            "had to end, so that the figure may be too low."
        )
    if few:
        fewest = min(few, key=lambda estimate: estimate.rounds)
        sentences.append(
            f"The interval of {fewest.rounds} {'round' if fewest.rounds == 1 else 'rounds'} is only their range, which "
            f"holds the median in {fewest.interval.level:.0%} of cases and not in {FULL_LEVEL:.0%}: give 7 --rounds or "
            "more, and more --max-seconds."
        )
    return sentences


def _timings(report: BenchReport) -> list[BatchTiming]:
    return [timing for row in report.rows for timing in row.timings]


def _are_exceptions(report: BenchReport, marked: int) -> bool:
    """Say whether so few figures would bear a mark that it tells them from the others."""
    return marked <= MOSTLY * len(_timings(report))


def _marked(report: BenchReport, mark: str, marked: Sequence[BatchTiming]) -> str:
    """Return the mark that stands for some figures, or how many they are where it is left out."""
    if _are_exceptions(report, len(marked)):
        return mark
    count = len(_timings(report))
    return "The figure" if count == 1 else f"{len(marked)} of the {count} figures"


def _to_settle(report: BenchReport, unsettled: Sequence[BatchTiming]) -> str:
    """Say what would narrow the intervals: a quieter machine, or about how many rounds."""
    if report.machine is not None and report.machine.remarks:
        return "It is wide on a busy machine: end other programs and measure again; more --rounds alone help little."
    needed = [_rounds_to_settle(timing, report.precision) for timing in unsettled]
    if max(needed) > MOST_ROUNDS:
        return "A quieter machine narrows it; more --rounds alone help little."
    rounds = _in_tens(max(needed))
    seconds = max(need * _seconds_of_a_round(timing) for need, timing in zip(needed, unsettled, strict=True))
    longer = f" --max-seconds {_in_tens(seconds)}" if seconds > SECONDS_OF_A_ROW else ""
    return f"About --rounds {rounds}{longer} would narrow it, or a quieter machine."


def _rounds_to_settle(timing: BatchTiming, precision: float | None) -> float:
    """Return about how many rounds it takes: the width falls with the root of their number."""
    value = timing.ratio or timing.throughput
    if precision is None or value.rounds < FEWEST_TO_FORESEE or value.median <= 0:
        return math.inf
    half = (value.interval.high - value.interval.low) / 2 / value.median
    return value.rounds * max(1.0, half / precision) ** 2


def _seconds_of_a_round(timing: BatchTiming) -> float:
    images = timing.batch_size * timing.latency.calls
    return images / timing.throughput.median / timing.throughput.rounds


def _in_tens(value: float) -> int:
    return 10 * math.ceil(value / 10)


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
    marked = {UNSETTLED: [t.settled for t in _timings(report)], NOT_WARM: [t.warm for t in _timings(report)]}
    shown = {mark for mark, found in marked.items() if _are_exceptions(report, found.count(False))}
    return (
        str(timing.batch_size),
        figures.estimate(timing.throughput)
        + (UNSETTLED if timing.settled is False and UNSETTLED in shown else "")
        + (NOT_WARM if timing.warm is False and NOT_WARM in shown else ""),
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
