"""From what was measured of a row to the row of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from toolkit.bench import statistics
from toolkit.bench.stopping import is_settled
from toolkit.bench.sweep import Outcome
from toolkit.compare.metrics import wilson_interval
from toolkit.results import BatchTiming, BenchRow, Estimate, Peak


@dataclass(frozen=True)
class Setting:
    """What all rows have in common."""

    threads: int
    """CPU threads that each was given."""
    images: int
    """Test images that accuracy was measured on."""
    flops_per_image: float | None = None
    precision: float | None = None
    """See ``BenchOptions``."""


def bench_row(outcome: Outcome, setting: Setting, reference: Outcome | None = None) -> BenchRow:
    """Turn what was measured into a row.

    A row that dropped out has no figures at all, so that half of them cannot mislead.

    Args:
        outcome: of one row.
        setting: of all rows.
        reference: the row that those on its device are compared with, which may be this one; None if there is none.
    """
    plan, row = outcome.plan, _without_figures(outcome, setting)
    if outcome.missing is not None:
        return row
    correct = sum(byte.bit_count() for byte in outcome.correct)
    return row.model_copy(
        update={
            "engine": outcome.engine,
            "spinning": outcome.spinning,
            "timings": tuple(batch_timing(size, outcome, setting, reference) for size in sorted(outcome.timed)),
            "load_seconds": outcome.load_seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            "test_accuracy": correct / setting.images,
            "test_accuracy_interval": wilson_interval(correct, setting.images),
            "test_images": setting.images,
            "cold_start_seconds": outcome.cold_start_seconds,
            "memory_above_idle_bytes": _above_idle(outcome),
            "provider": outcome.provider,
            "tf32": outcome.tf32,
            "precision": plan.precision,
            "correct": outcome.correct.hex(),
        }
    )


def batch_timing(batch_size: int, outcome: Outcome, setting: Setting, reference: Outcome | None = None) -> BatchTiming:
    """Return speed at one batch size from the per-call seconds of each round; arguments as for ``bench_row``."""
    timed = outcome.timed[batch_size]
    rates = timed.rates(batch_size)
    throughput = statistics.estimate(rates)
    ratio = _ratio(rates, batch_size, None if reference is outcome else reference)
    images = batch_size * sum(map(len, timed.rounds))
    flops = None if setting.flops_per_image is None else setting.flops_per_image * throughput.median
    peak = None if reference is None else reference.peak_flops_per_second
    return BatchTiming(
        batch_size=batch_size,
        throughput=throughput,
        latency=statistics.latency([call for seconds in timed.rounds for call in seconds]),
        rounds_images_per_second=tuple(rates),
        ratio=ratio,
        settled=is_settled(ratio or throughput, setting.precision),
        warm_up_seconds=timed.warm_up_seconds,
        warm=timed.warm,
        processor_seconds_per_image=timed.processor_seconds / images,
        cores_busy=timed.processor_seconds / sum(map(sum, timed.rounds)),
        flops_per_second=flops,
        share_of_peak=flops / peak if flops is not None and peak else None,
        device_p50_seconds=median(timed.device_seconds) if timed.device_seconds else None,
    )


def peaks(outcomes: Sequence[Outcome], threads: int) -> tuple[Peak, ...]:
    """Return the fastest matrix product of each device where one was measured."""
    return tuple(
        Peak(device=outcome.plan.device, threads=threads, flops_per_second=outcome.peak_flops_per_second)
        for outcome in outcomes
        if outcome.peak_flops_per_second is not None
    )


def _without_figures(outcome: Outcome, setting: Setting) -> BenchRow:
    plan = outcome.plan
    return BenchRow(
        name=plan.name,
        file=plan.file,
        sha256=plan.sha256,
        device=plan.device,
        missing=outcome.missing,
        engine=None,
        threads=setting.threads,
        timings=(),
        load_seconds=None,
        peak_memory_bytes=None,
        size_bytes=plan.size_bytes,
        test_accuracy=None,
        test_accuracy_interval=None,
        test_images=0,
    )


def _above_idle(outcome: Outcome) -> int | None:
    if outcome.peak_memory_bytes is None or outcome.idle_memory_bytes is None:
        return None
    return outcome.peak_memory_bytes - outcome.idle_memory_bytes


def _ratio(rates: Sequence[float], batch_size: int, reference: Outcome | None) -> Estimate | None:
    if reference is None or batch_size not in reference.timed:
        return None
    return statistics.paired_ratio(rates, reference.timed[batch_size].rates(batch_size))
