"""The speeds of a bundle's artifacts as a table: one column a batch size, its unit in the head."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.bundle.manifest import ArtifactRecord, BenchSummary
from toolkit.printable import printable

NOT_MEASURED = "-"


def speed_table(artifacts: Sequence[ArtifactRecord]) -> list[tuple[str, ...]]:
    """Return the head and a row for each artifact and device it was measured on; empty where none was.

    Args:
        artifacts: those of a manifest.
    """
    rows = [(artifact, summary) for artifact in artifacts for summary in artifact.benchmarks]
    calls = sorted({size for _, summary in rows for size in _calls(summary)})[:1]
    rates = sorted({size for _, summary in rows for size in _rates(summary)})
    if not rows:
        return []
    head = (
        "file",
        "device",
        "threads",
        *(f"ms per call at batch {size}" for size in calls),
        *(f"images/s at batch {size}" for size in rates),
        "processor",
    )
    return [head] + [
        (
            artifact.file,
            summary.device,
            str(summary.threads),
            *(_cell(_calls(summary).get(size), 1e3, 2) for size in calls),
            *(_cell(_rates(summary).get(size), 1.0, 0) for size in rates),
            summary.processor,
        )
        for artifact, summary in rows
    ]


def tuned_settings(artifact: ArtifactRecord) -> list[str]:
    """Return a sentence for each setting that a sweep found to be the best, without its full stop."""
    return [
        f"best for {tuned.purpose} on {summary.device} ({printable(summary.processor)}): batch {tuned.batch_size}, "
        f"{_counted(tuned.threads, 'thread')}, {_counted(tuned.streams, 'stream')}"
        + (", idle threads spinning" if tuned.spinning else "")
        + f": {tuned.images_per_second:.0f} images/s, {tuned.latency_p50_seconds * 1e3:.2f} ms per call"
        for summary in artifact.benchmarks
        for tuned in summary.tuned
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _calls(summary: BenchSummary) -> dict[int, float]:
    """Return seconds per call by batch size."""
    measured = {speed.batch_size: speed.latency_p50_seconds for speed in summary.speeds}
    return measured or {summary.latency_batch_size: summary.latency_p50_seconds}


def _rates(summary: BenchSummary) -> dict[int, float]:
    """Return images per second by batch size; of a record from before ``speeds`` only the fastest is known."""
    measured = {speed.batch_size: speed.images_per_second for speed in summary.speeds}
    return measured or {summary.batch_size: summary.images_per_second}


def _cell(value: float | None, factor: float, places: int) -> str:
    return NOT_MEASURED if value is None else f"{value * factor:.{places}f}"
