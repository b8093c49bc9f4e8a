"""How fast each artifact is and what it costs: ``bench.json``."""

from __future__ import annotations

from toolkit.results.provenance import Provenance
from toolkit.results.record import Interval, Record


class Estimate(Record):
    """A measured quantity: median over rounds, and a bootstrap interval of that median."""

    median: float
    interval: Interval
    rounds: int


class Latency(Record):
    """Per-call times at one batch size, pooled over all rounds."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    calls: int


class BatchTiming(Record):
    """Speed at one batch size."""

    batch_size: int
    throughput: Estimate
    """Images per second."""
    latency: Latency


class BenchRow(Record):
    """One way to run the model on one device."""

    name: str
    """Format name, or ``eager`` and ``channels_last`` for PyTorch itself."""
    file: str | None
    sha256: str | None
    device: str
    """The device that was asked for. A row with timings really ran on it."""
    missing: str | None
    """Why there are no figures, as one sentence; None for a row that was measured."""
    engine: str | None
    threads: int
    spinning: bool | None = None
    """Whether idle threads of the engine wait in a loop; None where the engine does not say, or in older files."""
    timings: tuple[BatchTiming, ...]
    load_seconds: float | None
    """Opening the file in a fresh process, with the engine already imported."""
    peak_memory_bytes: int | None
    """Peak resident memory of the worker process."""
    size_bytes: int | None
    test_accuracy: float | None
    test_accuracy_interval: Interval | None
    test_images: int


class BenchReport(Record):
    """What ``toolkit bench`` found out."""

    run: str
    model: str
    """Backbone, input size and classes, for the title of a table."""
    data: str
    rows: tuple[BenchRow, ...]
    seconds: float
    provenance: Provenance
