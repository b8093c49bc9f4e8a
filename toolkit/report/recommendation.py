"""Which artifact to ship, for latency and for throughput, and what it costs in accuracy.

A pure function of the records. Only artifacts that passed parity are looked at. Of those that the measurement shows no
other one to be faster than, the one that is easiest to ship is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.bundle.manifest import ArtifactRecord, Manifest
from toolkit.results import (
    REFERENCE_ROW,
    ArtifactParity,
    BenchReport,
    BenchRow,
    Estimate,
    Interval,
    PairedAccuracy,
    ParityReport,
)

Purpose = Literal["latency", "throughput"]
LARGE_LOSS = 0.05
"""Of accuracy: where the interval of the difference has room for more, nobody can say that there is no loss."""
PURPOSES: tuple[Purpose, ...] = ("latency", "throughput")


@dataclass(frozen=True)
class Speed:
    """How fast a row is for one purpose, under one setting."""

    batch_size: int
    threads: int
    streams: int
    rate: Estimate
    """What is compared: images per second of all streams for throughput, calls per second of one stream for latency."""
    images_per_second: Estimate
    p50_seconds: float
    p95_seconds: float
    tuned: bool
    """Whether the setting is the best of a sweep."""


@dataclass(frozen=True)
class Candidate:
    """An artifact that may be shipped."""

    row: BenchRow
    speed: Speed
    artifact: ArtifactRecord | None
    """None where there is no manifest."""
    accuracy: PairedAccuracy | None
    """Beside PyTorch on the same images; None where it was not verified on labelled ones."""

    @property
    def loses_accuracy(self) -> bool:
        """Whether a loss is shown: the interval of the difference lies below zero."""
        return self.accuracy is not None and self.accuracy.interval.high < 0

    @property
    def loss_is_unknown(self) -> bool:
        """Whether neither a loss is shown nor a large one is excluded: too few labelled images were compared."""
        interval = None if self.accuracy is None else self.accuracy.interval
        return interval is not None and interval.low < -LARGE_LOSS and interval.high >= 0

    @property
    def size_bytes(self) -> int | None:
        """Size with everything it cannot be opened without."""
        return self.row.size_bytes if self.artifact is None else self.artifact.total_bytes

    @property
    def carries_code(self) -> bool | None:
        """Whether its file can hold code; None where that is not known."""
        return None if self.artifact is None else self.artifact.carries_code

    @property
    def same_machine(self) -> bool:
        """Whether it promises nothing on another machine than the one it was exported on."""
        return self.artifact is not None and self.artifact.portability == "same-machine"

    def burden(self) -> tuple[bool | int | str, ...]:
        """Return what makes it harder to ship, the gravest first; smaller is better."""
        size = self.size_bytes
        code = {False: 0, None: 1, True: 2}[self.carries_code]
        return (self.loses_accuracy, self.same_machine, code, size is None, size or 0, self.row.name)


@dataclass(frozen=True)
class Choice:
    """The artifact to ship for one purpose on one device."""

    purpose: Purpose
    device: str
    chosen: Candidate
    as_fast: tuple[Candidate, ...]
    """The others that no artifact is shown to be faster than: no difference in speed is shown among them, nor from the
    chosen one."""
    fastest: Candidate
    lossless: Candidate | None
    """The fastest one without a shown loss of accuracy, where the chosen one has such a loss."""
    speedup: float | None
    """Rate relative to plain PyTorch on the same device under the same setting; None where that was not measured."""
    unsettled: bool
    """Whether the times of the chosen one, or of one that is as fast, never became stable."""


@dataclass(frozen=True)
class Recommendation:
    """What to ship."""

    choices: tuple[Choice, ...]
    """By device in the order of the rows, latency first."""
    reason: str | None
    """Why there is nothing to ship, as one sentence; None where there are choices."""
    considered: tuple[BenchRow, ...] = ()
    """The rows of artifacts that passed parity."""

    def of(self, purpose: Purpose, device: str | None = None) -> Choice | None:
        """Return the choice for a purpose; on the first device that has one by default."""
        return next(
            (choice for choice in self.choices if choice.purpose == purpose and device in (None, choice.device)), None
        )


def recommend(report: BenchReport, parity: ParityReport | None, manifest: Manifest | None) -> Recommendation:
    """Choose what to ship.

    Args:
        report: the benchmark.
        parity: verdicts of ``toolkit verify``; those in the manifest are taken where it is None.
        manifest: of the bundle: what can carry code, what is bound to a machine, and verdicts.

    Returns:
        A choice for each purpose and device, or the reason why there is none.
    """
    judged = {artifact.file: artifact for artifact in parity.artifacts} if parity else {}
    records = {artifact.file: artifact for artifact in manifest.artifacts} if manifest else {}
    passed = [row for row in report.rows if row.file is not None and _passed(row, judged, records)]
    choices = []
    for device in dict.fromkeys(row.device for row in passed):
        rows = [row for row in passed if row.device == device and row.missing is None and row.timings]
        reference = _reference(report, device)
        for purpose in PURPOSES:
            speeds = _speeds(purpose, rows)
            candidates = [
                Candidate(row, speed, records.get(row.file or ""), _accuracy(row, judged))
                for row, speed in zip(rows, speeds, strict=True)
            ]
            if candidates:
                choices.append(_choose(purpose, device, candidates, reference))
    known = {*judged, *(file for file, record in records.items() if record.parity is not None)}
    return Recommendation(tuple(choices), None if choices else _why_none(report, passed, known), tuple(passed))


def overlap(first: Interval, second: Interval) -> bool:
    """Tell whether two intervals have a value in common, so that a difference is not shown."""
    return first.low <= second.high and second.low <= first.high


def _choose(purpose: Purpose, device: str, candidates: Sequence[Candidate], reference: BenchRow | None) -> Choice:
    def fastest_of(among: Sequence[Candidate]) -> Candidate:
        return max(among, key=lambda candidate: candidate.speed.rate.median)

    def easiest_of(among: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
        # Not those that overlap the fastest one: a wide interval of that one would make them level that are not.
        slowest = max(candidate.speed.rate.interval.low for candidate in among)
        level = [candidate for candidate in among if candidate.speed.rate.interval.high >= slowest]
        return min(level, key=Candidate.burden), level

    chosen, level = easiest_of(candidates)
    without_loss = [candidate for candidate in candidates if not candidate.loses_accuracy]
    settled = [_timing_settled(candidate) for candidate in level]
    return Choice(
        purpose=purpose,
        device=device,
        chosen=chosen,
        as_fast=tuple(candidate for candidate in level if candidate is not chosen),
        fastest=fastest_of(candidates),
        lossless=easiest_of(without_loss)[0] if chosen.loses_accuracy and without_loss else None,
        speedup=_speedup(purpose, chosen, reference),
        unsettled=not all(settled),
    )


def _timing_settled(candidate: Candidate) -> bool:
    return all(
        timing.settled is not False and timing.warm is not False
        for timing in candidate.row.timings
        if timing.batch_size == candidate.speed.batch_size
    )


def _speedup(purpose: Purpose, chosen: Candidate, reference: BenchRow | None) -> float | None:
    if reference is None or chosen.speed.tuned:
        return None
    timings = [timing for timing in reference.timings if timing.batch_size == chosen.speed.batch_size]
    if purpose == "throughput":
        # Each at the batch size that suits it best: what a service would get from the one and from the other.
        timings = sorted(reference.timings, key=lambda timing: -timing.throughput.median)[:1]
    if not timings or not timings[0].throughput.median:
        return None
    paired = [timing.ratio for timing in chosen.row.timings if timing.batch_size == chosen.speed.batch_size]
    if timings[0].batch_size == chosen.speed.batch_size and paired and paired[0] is not None:
        return paired[0].median  # from the same rounds, as the table has it
    return chosen.speed.images_per_second.median / timings[0].throughput.median


def _reference(report: BenchReport, device: str) -> BenchRow | None:
    return next(
        (row for row in report.rows if row.name == REFERENCE_ROW and row.device == device and row.missing is None), None
    )


def _speeds(purpose: Purpose, rows: Sequence[BenchRow]) -> list[Speed]:
    """Return a speed for each row: under its tuned setting if all rows have one, so that like is compared with like."""
    tuned = [_tuned_speed(purpose, row) for row in rows]
    found = [speed for speed in tuned if speed is not None]
    return found if len(found) == len(rows) else [_plain_speed(purpose, row) for row in rows]


def _plain_speed(purpose: Purpose, row: BenchRow) -> Speed:
    key: Callable[..., float] = (
        (lambda timing: timing.batch_size) if purpose == "latency" else (lambda timing: -timing.throughput.median)
    )
    timing = min(row.timings, key=key)
    return Speed(
        batch_size=timing.batch_size,
        threads=row.threads,
        streams=1,
        rate=_scaled(timing.throughput, 1 / timing.batch_size if purpose == "latency" else 1.0),
        images_per_second=timing.throughput,
        p50_seconds=timing.latency.p50_seconds,
        p95_seconds=timing.latency.p95_seconds,
        tuned=False,
    )


def _tuned_speed(purpose: Purpose, row: BenchRow) -> Speed | None:
    best = next((tuned for tuned in row.tuned if tuned.purpose == purpose), None)
    if best is None:
        return None
    key = (best.batch_size, best.threads, best.streams)
    setting = next((each for each in row.sweep if (each.batch_size, each.threads, each.streams) == key), None)
    if setting is None:
        return None
    share = 1 / (setting.batch_size * setting.streams) if purpose == "latency" else 1.0
    return Speed(
        batch_size=setting.batch_size,
        threads=setting.threads,
        streams=setting.streams,
        rate=_scaled(setting.throughput, share),
        images_per_second=setting.throughput,
        p50_seconds=setting.latency.p50_seconds,
        p95_seconds=setting.latency.p95_seconds,
        tuned=True,
    )


def _scaled(value: Estimate, factor: float) -> Estimate:
    low, high = value.interval.low * factor, value.interval.high * factor
    interval = Interval(low=low, high=high, level=value.interval.level)
    return Estimate(median=value.median * factor, interval=interval, rounds=value.rounds)


def _passed(row: BenchRow, judged: dict[str, ArtifactParity], records: dict[str, ArtifactRecord]) -> bool:
    """Tell whether this very file passed parity."""
    verdict = judged.get(row.file or "")
    if verdict is not None:
        return verdict.passed and verdict.sha256 == row.sha256
    record = records.get(row.file or "")
    return record is not None and record.parity is not None and record.parity.passed and record.sha256 == row.sha256


def _accuracy(row: BenchRow, judged: dict[str, ArtifactParity]) -> PairedAccuracy | None:
    verdict = judged.get(row.file or "")
    return None if verdict is None or verdict.sha256 != row.sha256 else verdict.accuracy


def _why_none(report: BenchReport, passed: Sequence[BenchRow], judged: Collection[str]) -> str:
    files = {row.file for row in report.rows if row.file is not None}
    if not files:
        return "There is nothing to ship: no artifact was exported or measured."
    if files.isdisjoint(judged):
        return "There is nothing to recommend: no artifact was compared with PyTorch yet, which 'toolkit verify' does."
    if not passed:
        return "There is nothing to ship: no artifact that was measured has passed parity with PyTorch."
    return "There is nothing to recommend: no artifact that passed parity could be measured."
