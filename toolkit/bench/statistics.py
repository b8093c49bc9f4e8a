"""From times of single calls to the figures of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.results import Estimate, Interval, Latency

RESAMPLES = 2000
LEVEL = 0.95


def throughput(batch_size: int, seconds: Sequence[float]) -> float:
    """Return images per second of one round: all its images over all its time."""
    return batch_size * len(seconds) / sum(seconds)


def latency(seconds: Sequence[float]) -> Latency:
    """Return percentiles over single calls.

    Args:
        seconds: time of every call of every round, pooled: percentiles of percentiles would mean nothing.
    """
    p50, p95, p99 = np.percentile(np.asarray(seconds, np.float64), (50, 95, 99), method="linear")
    return Latency(p50_seconds=float(p50), p95_seconds=float(p95), p99_seconds=float(p99), calls=len(seconds))


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Return the median over rounds with its 95% bootstrap percentile interval (Efron 1979; 2,000 resamples).

    Args:
        values: one figure per round, at least one; with a single round the interval has no width and means nothing.
        seed: of the resampling.
    """
    rounds = np.asarray(values, np.float64)
    resampled = np.random.default_rng(seed).choice(rounds, size=(RESAMPLES, rounds.size), replace=True)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.median(resampled, axis=1), (tail, 100 - tail), method="linear")
    return Estimate(
        median=float(np.median(rounds)),
        interval=Interval(low=float(low), high=float(high), level=LEVEL),
        rounds=rounds.size,
    )
