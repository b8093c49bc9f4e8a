"""What limits a row, as one sentence made from the figures of the report and nothing else.

A part of the sentence stands there only where a figure shows it; what no figure shows is not said.
"""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.results import BatchTiming, BenchReport, BenchRow

REFERENCE = "eager"
"""The row of PyTorch itself that others are compared with, on the same device."""
PHASES = {
    "decode": "decoding",
    "resize": "resizing",
    "call": "the call of the engine",
    "other": "Python between the engine and the files",
}
SELDOM = 0.75
"""Threads that compute for less than this share of the time are said to: they sleep, or wait for a core that another
process has, which no figure here tells apart."""
BUSY = 0.85
"""Threads that compute for more than this share of the time are busy."""
FAR_FROM_PEAK = 0.3
"""Busy threads below this share of the peak are not limited by multiplying."""
SMALL_BATCH = 0.7
"""Single images at less than this share of a row's own best rate suffer from the small batch."""
EIGHT_BITS = "int8"


def with_reasons(report: BenchReport) -> BenchReport:
    """Return a report whose rows say what limits them."""
    return report.model_copy(
        update={"rows": tuple(row.model_copy(update={"why": why(report, row)}) for row in report.rows)}
    )


def why(report: BenchReport, row: BenchRow) -> str | None:
    """Return what limits a row as one sentence without its full stop; None where no figure shows anything.

    Args:
        report: the whole of it, for the reference on the same device.
        row: one of its rows.
    """
    if row.missing is not None or not row.timings:
        return None
    parts = [*_of_an_image(row), *_of_the_engine(row), *_of_a_small_batch(row), *_slower(report, row)]
    return "; ".join(parts) or None


def _of_an_image(row: BenchRow) -> Iterator[str]:
    if row.end_to_end is None or not row.end_to_end.phases:
        return
    largest = max(row.end_to_end.phases, key=lambda phase: phase.share)
    if largest.share > 0:
        yield f"{largest.share:.0%} of an image's time from file to label is {PHASES[largest.name]}"


def _of_the_engine(row: BenchRow) -> Iterator[str]:
    """Say how busy the threads are, and how near the peak, at the largest batch."""
    timing = _largest(row)
    cores, peak = _cores(row, timing), timing.share_of_peak
    at = f"at batch {timing.batch_size}"
    if cores is not None:
        text = f"{at} the engine uses {cores:.1f} of {row.threads} {'core' if row.threads == 1 else 'cores'}"
        yield text if peak is None else f"{text} at {_share(peak)} of the peak of a float32 matrix product"
    elif peak is not None:
        yield f"{at} the engine reaches {_share(peak)} of the peak of a float32 matrix product"
    if cores is not None and peak is not None and cores >= BUSY * row.threads and peak < FAR_FROM_PEAK:
        yield "busy cores so far from the peak wait for memory or do other work than multiplying"


def _of_a_small_batch(row: BenchRow) -> Iterator[str]:
    one = next((timing for timing in row.timings if timing.batch_size == 1), None)
    fastest = max(row.timings, key=lambda timing: timing.throughput.median)
    if one is None or fastest is one:
        return
    if one.throughput.interval.high < SMALL_BATCH * fastest.throughput.interval.low:
        share = one.throughput.median / fastest.throughput.median
        yield f"single images reach {share:.0%} of its rate at batch {fastest.batch_size}"


def _slower(report: BenchReport, row: BenchRow) -> Iterator[str]:
    """Say where a row is slower than the reference, with what the figures show of the reason."""
    reference = next(
        (
            other
            for other in report.rows
            if (other.name, other.device) == (REFERENCE, row.device) and other.missing is None
        ),
        None,
    )
    slower = [timing for timing in row.timings if timing.ratio is not None and timing.ratio.interval.high < 1]
    if reference is None or reference is row or not slower:
        return
    worst = min(slower, key=lambda timing: timing.ratio.median if timing.ratio else 1.0)
    if worst.ratio is not None:
        said = f"{worst.ratio.median:.2f}x {REFERENCE} at batch {worst.batch_size}"
        reasons = list(_reasons(report, row, reference, worst))
        yield f"{said}, where {' and '.join(reasons)}" if reasons else said


def _reasons(report: BenchReport, row: BenchRow, reference: BenchRow, timing: BatchTiming) -> Iterator[str]:
    if row.threads < reference.threads:
        yield f"it has {row.threads} of the {reference.threads} threads of {REFERENCE}"
    own = _cores(row, timing)
    beside = next((other for other in reference.timings if other.batch_size == timing.batch_size), None)
    others = None if beside is None else _cores(reference, beside)
    if own is not None and own < SELDOM * row.threads and (others is None or own < others):
        yield f"its threads compute for only {own / row.threads:.0%} of the time"
    if row.device == "cpu" and row.precision == EIGHT_BITS and report.int8_dot_products is False:
        yield "the processor has no instructions for products of 8-bit numbers (VNNI or AMX)"


def _cores(row: BenchRow, timing: BatchTiming) -> float | None:
    """Return how many cores computed on average; of a GPU, where the processor only waits, nothing is said."""
    return timing.cores_busy if row.device == "cpu" else None


def _share(share: float) -> str:
    """Return a share of which something is there: never ``0%``."""
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"


def _largest(row: BenchRow) -> BatchTiming:
    return max(row.timings, key=lambda timing: timing.batch_size)
