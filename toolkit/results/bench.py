"""How fast each artifact is and what it costs: ``bench.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toolkit.errors import MOST_THREADS
from toolkit.results.provenance import Provenance
from toolkit.results.record import Interval, Record

REFERENCE_ROW = "eager"
"""The row that ratios are relative to, on the same device and at the same batch size."""


class Estimate(Record):
    """A measured quantity: median over rounds, and a bootstrap interval of that median.

    Fewer than 6 rounds cannot have an interval that holds in 95 of 100 cases: it is their range, and ``interval.level``
    is what that holds.
    """

    median: float
    interval: Interval
    rounds: int


class Latency(Record):
    """Per-call times at one batch size, pooled over all rounds."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    calls: int
    percentiles_seconds: tuple[float, ...] = ()
    """The 0th, 1st, ... 100th percentile: the whole distribution. Empty in older files."""


class BatchTiming(Record):
    """Speed at one batch size."""

    batch_size: int
    throughput: Estimate
    """Images per second."""
    latency: Latency
    rounds_images_per_second: tuple[float, ...] = ()
    """Throughput of each round, in the order of the rounds: round i of every row was measured in the same minute. Empty
    in older files."""
    ratio: Estimate | None = None
    """Throughput relative to the reference row on the same device, from the ratios of the same rounds; None where there
    is no reference, and for the reference itself."""
    settled: bool | None = None
    """Whether the interval of ``ratio``, or of ``throughput`` where there is none, became as narrow as
    ``BenchReport.precision`` before the rounds or the time of the row were over; None where the number of rounds was
    fixed, and in older files."""
    warm_up_seconds: float | None = None
    """How long calls were made until their times were stable."""
    warm: bool | None = None
    """Whether they became stable; None in older files."""
    processor_seconds_per_image: float | None = None
    """Processor time of all threads of the worker."""
    cores_busy: float | None = None
    """How many cores computed on average: processor time of all threads over the time of all rounds. None in older
    files."""
    flops_per_second: float | None = None
    """Floating point operations of the network per second; a multiplication and an addition are two."""
    share_of_peak: float | None = None
    """``flops_per_second`` of what a matrix product reached in the same run on the same device, in float32."""
    device_p50_seconds: float | None = None
    """Median over calls of the time between two CUDA events around the call; None on a CPU, and where the engine has
    none."""


class Phase(Record):
    """One part of what happens between the bytes of a file and a label."""

    name: Literal["decode", "resize", "call", "other"]
    """``call`` is the engine; ``other`` is Python and everything between."""
    seconds_per_image: float
    share: float
    """Of the whole."""


class EndToEnd(Record):
    """From the bytes of image files to labels, one worker with all its threads. Never compared with a model's time."""

    files: int
    """Different image files, already in memory."""
    throughput: Estimate
    """Images per second."""
    processor_seconds_per_image: float
    phases: tuple[Phase, ...]
    """Of one image after another in one thread."""
    batch_size: int
    encoded_as_png: bool = False
    """True where the data set has no image files: its pictures were written as PNG once, before anything was timed."""


class SettingTiming(Record):
    """Speed under one setting of a sweep."""

    batch_size: int
    threads: int
    """Of each stream."""
    streams: int
    """Calls at the same time, each in a session of its own."""
    throughput: Estimate
    """Images per second of all streams together."""
    latency: Latency
    """Of single calls while all streams were busy."""
    spinning: bool | None = None
    """Whether idle threads of the engine wait in a loop; None where the engine cannot be told."""


class Tuned(Record):
    """The best setting of a sweep for one purpose."""

    purpose: Literal["latency", "throughput"]
    batch_size: int = Field(ge=1, le=65_536)
    threads: int = Field(ge=1, le=MOST_THREADS)
    streams: int = Field(ge=1, le=64)
    images_per_second: float
    latency_p50_seconds: float
    spinning: bool | None = None
    """Whether idle threads of the engine wait in a loop; None where the engine cannot be told."""
    cores: int | None = None
    """That the process could use where it was measured."""


class Load(Record):
    """How busy the machine was."""

    load_average: float | None
    """Over the last minute; None where the system does not say."""
    busy_share: float | None
    """Share of the processor time of the cores that it may use which went to other processes than this benchmark."""
    steal_share: float | None
    """Share of processor time that a hypervisor gave to other machines."""
    frequency_mhz: float | None
    """Mean over the cores."""
    throttled_share: float | None = None
    """Of the periods of a container's CPU limit, the share in which it ran out and everything in it stood still; None
    where there is no such limit, and in older files."""


class MachineState(Record):
    """The machine while it measured."""

    before: Load
    during: Load
    remarks: tuple[str, ...] = ()
    """What a reader must know, e.g. that the machine was busy; a sentence each."""


class Peak(Record):
    """The fastest matrix product that was reached on a device in the same run."""

    device: str
    threads: int
    flops_per_second: float


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
    cold_start_seconds: float | None = None
    """From the start of a process to its first answer."""
    memory_above_idle_bytes: int | None = None
    """``peak_memory_bytes`` less that of a worker that has imported its engine and opened nothing."""
    provider: str | None = None
    """What really computed, in the engine's own words, e.g. ``CPUExecutionProvider``."""
    tf32: bool | None = None
    """Whether float32 products may be computed in TF32; None on a CPU, or where the engine does not say."""
    precision: str | None = None
    """What the model computes in, as its format says, e.g. ``float32``."""
    correct: str | None = None
    """Which test images were classified rightly: one bit an image in the order of the split, the first one the highest
    bit of the first byte, in hexadecimal; None in older files."""
    end_to_end: EndToEnd | None = None
    sweep: tuple[SettingTiming, ...] = ()
    tuned: tuple[Tuned, ...] = ()
    why: str | None = None
    """What limits the row, as one sentence."""


class BenchReport(Record):
    """What ``toolkit bench`` found out."""

    run: str
    model: str
    """Backbone, input size and classes, for the title of a table."""
    data: str
    rows: tuple[BenchRow, ...]
    seconds: float
    provenance: Provenance
    machine: MachineState | None = None
    """None in older files."""
    peaks: tuple[Peak, ...] = ()
    flops_per_image: float | None = None
    """Of the network; a multiplication and an addition are two."""
    int8_dot_products: bool | None = None
    """Whether the processor has instructions that add products of 8-bit numbers in 32 bits (VNNI, AMX); None where that
    is not known, or in older files."""
    test_fingerprint: str | None = None
    """SHA-256 of the prepared test images and their classes: two reports with the same one can be compared image by
    image."""
    test_split_fingerprint: str | None = None
    """SHA-256 of the same images as they are stored, whatever size a network takes them at; None where accuracy was
    measured on a part of them, and in older files."""
    precision: float | None = None
    """Half the width of a 95% interval, relative to its middle value, at which a row counted as settled; None where the
    number of rounds was fixed, and in older files."""
    most_rounds: int | None = None
    """How many rounds a row was given at most; None in older files."""
