"""From times of single calls to the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

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
    whole = np.percentile(np.asarray(seconds, np.float64), range(101), method="linear")
    return Latency(
        p50_seconds=float(whole[50]),
        p95_seconds=float(whole[95]),
        p99_seconds=float(whole[99]),
        calls=len(seconds),
        percentiles_seconds=tuple(float(value) for value in whole),
    )


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Return the median over rounds with its 95% expanded bootstrap percentile interval (2,000 resamples).

    Of fewer than 6 rounds the interval is their range, which holds the median less often; its ``level`` says how often.

    The percentile interval (Efron 1979) is too narrow for few rounds: of 7 it holds the true median in 85 to 90 of 100
    cases. Its tails are therefore taken further out, as for a mean of so few values (Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", section 4.2), which gives 95 or more, also where measuring stops once the interval
    is narrow.

    Args:
        values: one figure per round, at least one; with a single round the interval has no width and means nothing.
        seed: of the resampling.
    """
    rounds = np.asarray(values, np.float64)
    resampled = np.random.default_rng(seed).choice(rounds, size=(RESAMPLES, rounds.size), replace=True)
    tail = 100 * _expanded_tail(rounds.size)
    low, high = np.percentile(np.median(resampled, axis=1), (tail, 100 - tail), method="linear")
    return Estimate(
        median=float(np.median(rounds)),
        interval=Interval(low=float(low), high=float(high), level=min(LEVEL, level_of_range(rounds.size))),
        rounds=rounds.size,
    )


def paired_ratio(own: Sequence[float], reference: Sequence[float], seed: int = 0) -> Estimate:
    """Return how many times the reference's throughput a row reached, from the ratios of the same rounds.

    What slows a whole round down, as a busy neighbour does, is in both figures of a pair and cancels.

    Args:
        own: throughput of each round of the row.
        reference: of the reference; rounds that only one of them made are left out.
        seed: of the resampling.
    """
    return estimate([mine / theirs for mine, theirs in zip(own, reference, strict=False)], seed)


def half_width(value: Estimate) -> float:
    """Return half the width of the interval relative to the median; infinite for a single round, which tells none."""
    if value.rounds < 2 or not value.median:
        return math.inf
    return (value.interval.high - value.interval.low) / 2 / value.median


def level_of_range(rounds: int) -> float:
    """Return how often the range of so many independent values holds the median of what they are drawn from.

    It does not where all of them lie on one side, which has a chance of 1 in 2 for each but the first.
    """
    return float(1 - 2.0 ** (1 - rounds))


def _expanded_tail(rounds: int) -> float:
    """Return the share of resamples to leave out at each end."""
    if rounds < 2:
        return (1 - LEVEL) / 2
    normal, freedom = NormalDist(), rounds - 1
    z = normal.inv_cdf((1 + LEVEL) / 2)
    # Student's quantile, to within 1% from 4 degrees of freedom on (Abramowitz and Stegun 26.7.5); of fewer rounds the
    # interval is from the smallest to the largest anyway.
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return normal.cdf(-student * math.sqrt(rounds / freedom))
