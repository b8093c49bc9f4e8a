"""Two sides beside each other: which is faster, which is right more often, and whether a limit was passed."""

from __future__ import annotations

from typing import Literal

from toolkit.results.bench import Estimate
from toolkit.results.provenance import Provenance
from toolkit.results.record import Interval, Record

Verdict = Literal["faster", "slower", "better", "worse", "no difference shown", "not comparable"]
"""Of B. ``faster`` and ``slower`` are of speed, ``better`` and ``worse`` of accuracy."""
ParityState = Literal["passed", "failed", "not verified"]


class ComparedSide(Record):
    """One of the two sides."""

    kind: Literal["report", "run", "bundle"]
    """What was given."""
    name: str
    """Of the run."""
    model: str
    data: str
    measured: str | None
    """UTC time, ISO 8601; None where several are mixed."""
    processor: str | None
    """None where it is not known, as are the others."""
    cores: int | None
    gpu: str | None
    packages: dict[str, str]
    """Version of each package that matters."""


class SpeedComparison(Record):
    """Speed at one batch size."""

    batch_size: int
    a: Estimate | None
    """Images per second; None where it was not measured."""
    b: Estimate | None
    ratio: float | None
    """Throughput of B relative to A."""
    interval: Interval | None
    """Of ``ratio``. All intervals of a comparison hold together with 95%: the level of each is higher."""
    rounds: int
    """Of the side with fewer; 0 where it is not known."""
    method: Literal["paired rounds", "separate rounds", "intervals"] | None
    """``paired rounds``: both sides were measured in turns. ``separate rounds``: at different times. ``intervals``:
    only medians with their intervals are known, and the interval of the ratio is an approximation."""
    verdict: Verdict
    why: str | None
    """Why it is not comparable, as one sentence."""
    remarks: tuple[str, ...] = ()
    failure: str | None = None
    """What a gate says of this line, as the end of a sentence; None where none fails."""


class AccuracyComparison(Record):
    """Accuracy on test images."""

    a: float | None
    b: float | None
    images_a: int
    images_b: int
    paired: bool
    """Whether the same images were compared one by one."""
    difference: float | None
    """B minus A."""
    interval: Interval | None
    """Of ``difference``, of the same level as those of speed."""
    only_a_right: int | None = None
    """Images that only A classifies rightly; None where they are not paired."""
    only_b_right: int | None = None
    p_value: float | None = None
    """Two-sided exact McNemar test; None where they are not paired."""
    verdict: Verdict
    why: str | None
    """Why it is not comparable, or why the images are not paired."""
    failure: str | None = None
    """What a gate says of this line, as the end of a sentence; None where none fails."""


class ComparedRow(Record):
    """What has the same name and runs on the same device on both sides."""

    name: str
    device: str
    missing: str | None
    """Why there is nothing to compare, as one sentence."""
    same_file: bool | None = None
    """Whether both are the same file by its digest; None where that is not known."""
    speeds: tuple[SpeedComparison, ...] = ()
    accuracy: AccuracyComparison | None = None
    size_a_bytes: int | None = None
    size_b_bytes: int | None = None
    parity_a: ParityState | None = None
    """What ``toolkit verify`` said; None for PyTorch itself, and where nothing is known."""
    parity_b: ParityState | None = None


class Gate(Record):
    """A limit that was asked for."""

    name: Literal["throughput", "accuracy"]
    limit: float
    """The loss that is allowed: a share of A's throughput, or of the test images."""
    judged: int
    """Lines that could be judged."""
    not_judged: tuple[str, ...] = ()
    """One sentence per line that A has and B cannot be held to, because B has no such row, or ran it on other threads,
    for instance. The gate is not passed then."""
    failures: tuple[str, ...]
    """One sentence per line whose whole interval lies beyond the limit; empty if the gate is passed."""


class Comparison(Record):
    """What ``toolkit compare`` found out."""

    a: ComparedSide
    b: ComparedSide
    interleaved: bool
    """Whether both sides were measured now, in turns."""
    machine_differences: tuple[str, ...]
    """How the machines differ, a sentence each; empty for one machine."""
    tests: int
    """Intervals that hold together: of all comparable speeds and accuracies."""
    false_calls: float
    """Of all comparisons between two sides that do not differ, at most this share calls any difference."""
    told: float
    """The smallest difference of speed that is called, as a share."""
    rows: tuple[ComparedRow, ...]
    gates: tuple[Gate, ...]
    passed: bool
    """Whether every gate judged all lines that A has, and none failed; True where none was asked for."""
    remarks: tuple[str, ...]
    """What a reader must know, a sentence each."""
    provenance: Provenance
    """Of the comparison."""
