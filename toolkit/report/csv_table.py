"""The comparison as CSV: raw numbers in SI units, one line per row and batch size."""

from __future__ import annotations

import csv
import io
import re

from toolkit.report.tables import relative_throughput
from toolkit.results import BatchTiming, BenchReport, BenchRow, EndToEnd

PHASES = ("decode", "resize", "call", "other")
HEADER = (
    "run",
    "name",
    "device",
    "engine",
    "provider",
    "precision",
    "tf32",
    "threads",
    "spinning",
    "batch_size",
    "throughput_images_per_second",
    "throughput_low_images_per_second",
    "throughput_high_images_per_second",
    "throughput_relative_to_eager",
    "throughput_relative_low",
    "throughput_relative_high",
    "settled",
    "rounds",
    "calls",
    "latency_p50_seconds",
    "latency_p95_seconds",
    "latency_p99_seconds",
    "device_p50_seconds",
    "warm",
    "warm_up_seconds",
    "processor_seconds_per_image",
    "flops_per_second",
    "share_of_peak",
    "load_seconds",
    "cold_start_seconds",
    "peak_memory_bytes",
    "memory_above_idle_bytes",
    "size_bytes",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_images",
    "file",
    "sha256",
    "missing",
    "why",
    "end_to_end_images_per_second",
    "end_to_end_low_images_per_second",
    "end_to_end_high_images_per_second",
    "end_to_end_processor_seconds_per_image",
    *(f"end_to_end_{name}_seconds" for name in PHASES),
)


_FORMULA = re.compile(r"[=+\-@\t\r](?!$|[\d.,\s]*$)", re.DOTALL)
"""Start of a text that spreadsheets compute, or start a program for; a sign alone or before a number is none."""


def cell(text: str, guard: str = "'") -> str:
    """Return a text for a cell of a table that may be opened in a spreadsheet.

    Args:
        text: what the cell is to hold.
        guard: what goes before a text that would be a formula (https://owasp.org/www-community/attacks/CSV_Injection):
            ``./`` before a path leaves it the same path.
    """
    return guard + text if _FORMULA.match(text) else text


def bench_csv(report: BenchReport) -> str:
    """Return the report as CSV (RFC 4180 but for line feeds alone at the ends of lines).

    An empty field is a figure that does not exist.

    A row that was not measured is one line with its reason under ``missing``.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        for timing in row.timings or (None,):
            values = {**_of_row(report, row), **_of_timing(report, row, timing)}
            writer.writerow({name: cell(value) if isinstance(value, str) else value for name, value in values.items()})
    return text.getvalue()


def _of_row(report: BenchReport, row: BenchRow) -> dict[str, object]:
    interval = row.test_accuracy_interval
    return {
        "run": report.run,
        "name": row.name,
        "device": row.device,
        "engine": row.engine,
        "provider": row.provider,
        "precision": row.precision,
        "tf32": row.tf32,
        "threads": row.threads,
        "spinning": row.spinning,
        "load_seconds": row.load_seconds,
        "cold_start_seconds": row.cold_start_seconds,
        "peak_memory_bytes": row.peak_memory_bytes,
        "memory_above_idle_bytes": row.memory_above_idle_bytes,
        "size_bytes": row.size_bytes,
        "test_accuracy": row.test_accuracy,
        "test_accuracy_low": None if interval is None else interval.low,
        "test_accuracy_high": None if interval is None else interval.high,
        "test_images": row.test_images,
        "file": row.file,
        "sha256": row.sha256,
        "missing": row.missing,
        "why": row.why,
        **_end_to_end(row.end_to_end),
    }


def _end_to_end(measured: EndToEnd | None) -> dict[str, object]:
    if measured is None:
        return {}
    return {
        "end_to_end_images_per_second": measured.throughput.median,
        "end_to_end_low_images_per_second": measured.throughput.interval.low,
        "end_to_end_high_images_per_second": measured.throughput.interval.high,
        "end_to_end_processor_seconds_per_image": measured.processor_seconds_per_image,
        **{f"end_to_end_{phase.name}_seconds": phase.seconds_per_image for phase in measured.phases},
    }


def _of_timing(report: BenchReport, row: BenchRow, timing: BatchTiming | None) -> dict[str, object]:
    if timing is None:
        return {}
    ratio = timing.ratio
    return {
        "batch_size": timing.batch_size,
        "throughput_images_per_second": timing.throughput.median,
        "throughput_low_images_per_second": timing.throughput.interval.low,
        "throughput_high_images_per_second": timing.throughput.interval.high,
        "throughput_relative_to_eager": relative_throughput(report, row, timing.batch_size)
        if ratio is None
        else ratio.median,
        "throughput_relative_low": None if ratio is None else ratio.interval.low,
        "throughput_relative_high": None if ratio is None else ratio.interval.high,
        "settled": timing.settled,
        "rounds": timing.throughput.rounds,
        "calls": timing.latency.calls,
        "latency_p50_seconds": timing.latency.p50_seconds,
        "latency_p95_seconds": timing.latency.p95_seconds,
        "latency_p99_seconds": timing.latency.p99_seconds,
        "device_p50_seconds": timing.device_p50_seconds,
        "warm": timing.warm,
        "warm_up_seconds": timing.warm_up_seconds,
        "processor_seconds_per_image": timing.processor_seconds_per_image,
        "flops_per_second": timing.flops_per_second,
        "share_of_peak": timing.share_of_peak,
    }
