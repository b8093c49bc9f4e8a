"""What stands below the comparison: why, from files to labels, and the best settings."""

from __future__ import annotations

from toolkit.report import figures
from toolkit.report.tables import Column, Line, Table
from toolkit.results import BenchReport, BenchRow, EndToEnd, Tuned

END_TO_END_TITLE = "from the bytes of image files to labels"
TUNED_TITLE = "best settings"
END_TO_END_COLUMNS = (
    Column("model", "left"),
    Column("device", "left"),
    Column("img/s [95%]"),
    Column("CPU ms/img"),
    Column("decode"),
    Column("resize"),
    Column("call"),
    Column("other"),
)
TUNED_COLUMNS = (
    Column("model", "left"),
    Column("device", "left"),
    Column("best for", "left"),
    Column("batch"),
    Column("threads"),
    Column("streams"),
    Column("idle threads", "left"),
    Column("img/s"),
    Column("p50 ms"),
)


def reasons(report: BenchReport) -> list[tuple[str, str]]:
    """Return what each row is called and what limits it, for the rows of which that is known."""
    return [(f"{row.name} on {row.device}", row.why) for row in report.rows if row.why]


def end_to_end_table(report: BenchReport) -> Table:
    """Return a line for each row that was measured from files to labels."""
    lines = [_end_to_end(row, row.end_to_end) for row in report.rows if row.end_to_end is not None]
    return Table(END_TO_END_COLUMNS, tuple(lines))


def end_to_end_note(report: BenchReport) -> str:
    """Return what must be known to read the table, as a sentence without its full stop; empty where nothing must."""
    measured = [row.end_to_end for row in report.rows if row.end_to_end is not None]
    if not any(measured):
        return ""
    files = "/".join(str(count) for count in sorted({one.files for one in measured}))
    kind = "test images that were written as PNG once" if measured[0].encoded_as_png else "files of test images"
    return (
        f"{files} {kind}, already in memory, in one call of predict with all threads; the shares are those of one "
        "image after another in one thread. Not to be compared with the time of the model alone"
    )


def tuned_table(report: BenchReport) -> Table:
    """Return a line for each row and purpose that a sweep found a setting for."""
    return Table(TUNED_COLUMNS, tuple(_tuned(row, tuned) for row in report.rows for tuned in row.tuned))


def _end_to_end(row: BenchRow, measured: EndToEnd) -> Line:
    shares = {phase.name: phase.share for phase in measured.phases}
    return Line(
        (
            row.name,
            row.device,
            figures.estimate(measured.throughput),
            figures.milliseconds(measured.processor_seconds_per_image),
            *(figures.percent(shares.get(name)) for name in ("decode", "resize", "call", "other")),
        )
    )


def _tuned(row: BenchRow, tuned: Tuned) -> Line:
    return Line(
        (
            row.name,
            row.device,
            tuned.purpose,
            str(tuned.batch_size),
            str(tuned.threads),
            str(tuned.streams),
            {None: figures.NONE, False: "sleep", True: "spin"}[tuned.spinning],
            figures.number(tuned.images_per_second),
            figures.milliseconds(tuned.latency_p50_seconds),
        )
    )
