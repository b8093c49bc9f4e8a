"""How many times as fast one side is as the other: a ratio with an interval that assumes no normal distribution.

Times of a computer have long tails, and a few rounds are few: a bootstrap of the median of seven rounds is too narrow
(its 95% interval holds the median in 87% of cases). The intervals here are those of the exact rank tests, on
logarithms. Where both sides are the same, which of the two a figure is of is chance alone, and that is all that the
tests assume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from toolkit.results import Estimate, Interval

FALSE_CALLS = 0.05
"""Of all comparisons in which nothing differs, the share in which any line may call a difference."""
TOLD = 0.01
"""The smallest difference of speed that is called. Two processes that run one file differ by up to about this much for
reasons that no round averages out, such as where their memory happens to lie (Mytkowicz et al. 2009, ASPLOS)."""
FEWEST_ROUNDS = 5
"""Of an estimate whose rounds are not known one by one: an interval of fewer says next to nothing of its median."""
FURTHEST = 300.0
"""Largest logarithm of a ratio; figures that are further apart are no speeds."""
MOST_EXACT = 60
"""Rounds of one side up to which the distribution of the rank sum is computed and not approximated."""


@dataclass(frozen=True)
class Ratio:
    """Second side over the first."""

    ratio: float
    interval: Interval | None
    """None where so few rounds cannot have an interval of this level."""


def joint_level(tests: int) -> float:
    """Return the level of each of several intervals that all hold together with 95% (Bonferroni).

    Args:
        tests: how many intervals there are; at least 1.
    """
    return 1 - FALSE_CALLS / max(1, tests)


def least_rounds(tests: int) -> int:
    """Return how many paired rounds so many intervals need to exist at all.

    Args:
        tests: how many intervals hold together; at least 1.
    """
    return math.ceil(math.log2(2 * max(1, tests) / FALSE_CALLS))


def paired_ratio(first: Sequence[float], second: Sequence[float], level: float, starts: Sequence[int] = ()) -> Ratio:
    """Return the ratio of two sides that were measured in turns.

    Hodges-Lehmann estimate of the logarithms' differences, with the interval of the exact signed-rank test (Hollander,
    Wolfe and Chicken 2014, sections 3.2 and 3.3).

    Args:
        first: a figure per round, positive.
        second: of the other side in the same rounds; where one side has more rounds, its last ones are left out.
        level: of the interval.
        starts: how many of the rounds each start of the processes made, in order. A process keeps what chance gave it
            when it started, so rounds of one start are no independent witnesses: the test is then one of the starts,
            each with the median of its rounds. Empty, or one, where nothing was started anew.

    Raises:
        ValueError: there is no round, or a figure is not positive.
    """
    rounds = min(len(first), len(second))
    differences = _logarithms(second[:rounds]) - _logarithms(first[:rounds])
    if len(starts) > 1:
        parts = np.split(differences, np.cumsum(starts)[:-1])
        differences = np.array([np.median(part) for part in parts if part.size])
    rows, columns = np.triu_indices(differences.size)
    averages = np.sort((differences[rows] + differences[columns]) / 2)
    return _between(averages, _signed_rank(differences.size), level)


def separate_ratio(first: Sequence[float], second: Sequence[float], level: float) -> Ratio:
    """Return the ratio of two sides that were measured at different times.

    Hodges-Lehmann estimate of the shift of the logarithms, with the interval of the exact rank-sum test (the same,
    sections 4.2 and 4.3). What changed between the two times is in it and cannot be told apart.

    Args:
        first: a figure per round, positive.
        second: of the other side.
        level: of the interval.

    Raises:
        ValueError: a side has no round, or a figure is not positive.
    """
    before, after = _logarithms(first), _logarithms(second)
    shifts = np.sort((after[:, None] - before[None, :]).ravel())
    if max(len(before), len(after)) > MOST_EXACT:
        return _between(shifts, None, level, _rank_sum_deviation(len(before), len(after)))
    return _between(shifts, _rank_sum(*sorted((len(before), len(after)))), level)


def ratio_of_estimates(first: Estimate, second: Estimate, level: float) -> Ratio:
    """Return the ratio where only medians and their intervals are known: an approximation.

    The logarithms are taken as normal with the widths that the intervals have.

    Args:
        first: of at least ``FEWEST_ROUNDS`` rounds, or of 0 where their number is not known.
        second: the same.
        level: of the interval.

    Raises:
        ValueError: a figure is not positive, the rounds are too few, or an interval is none.
    """
    for side in (first, second):
        if 0 < side.rounds < FEWEST_ROUNDS:
            raise ValueError(
                f"{'one round has' if side.rounds == 1 else f'{side.rounds} rounds have'} no interval to compare by: "
                "measure again with more (--rounds)"
            )
        between = side.interval
        _logarithms((between.low, side.median, between.high))
        if not (0 < between.level < 1 and between.low < between.high and between.low <= side.median <= between.high):
            raise ValueError(
                f"the interval [{between.low:g}, {between.high:g}] of {side.median:g} images/s is none: measure again "
                "with more rounds (--rounds)"
            )
    error = math.hypot(_standard_error(first.interval), _standard_error(second.interval))
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    ratio = second.median / first.median
    return Ratio(ratio, Interval(low=ratio * math.exp(-half), high=ratio * math.exp(half), level=level))


def beside_control(interval: Interval, ratio: float, control: tuple[float, Interval]) -> Interval:
    """Return an interval of a ratio that holds whether or not the machine was as fast for both sides.

    It holds the ratio's own interval and that of the ratio relative to the control's (square-and-add: Zou and Donner
    2008, Statistics in Medicine 27:1693-1702). So what moved both is not taken for a difference, however noisy the
    control is.

    Args:
        interval: of the ratio, as it was measured.
        ratio: of something that may differ.
        control: the ratio of something that is the same on both sides, and its interval.
    """
    low, middle, high = np.log([interval.low, ratio, interval.high])
    base_low, base, base_high = np.log([control[1].low, control[0], control[1].high])
    lowest, highest = _exponentials(
        middle - base - math.hypot(middle - low, base_high - base),
        middle - base + math.hypot(high - middle, base - base_low),
    )
    return Interval(low=min(interval.low, lowest), high=max(interval.high, highest), level=interval.level)


def _logarithms(figures: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(figures, np.float64)
    if not values.size or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("a ratio needs figures above 0, at least one a side")
    return np.log(values)


def _between(
    ordered: npt.NDArray[np.float64], below: npt.NDArray[np.float64] | None, level: float, deviation: float = 0.0
) -> Ratio:
    """Return the median of ordered differences, and those that the test does not refuse.

    Args:
        ordered: logarithms.
        below: the probability of at most 0, 1, 2, ... under the test; None to approximate it.
        level: of the interval.
        deviation: standard deviation of the statistic, for the approximation.
    """
    tail = (1 - level) / 2
    if below is None:
        kept_out = max(0, math.floor(ordered.size / 2 + NormalDist().inv_cdf(tail) * deviation - 0.5))
    else:
        kept_out = int(np.searchsorted(below, tail, side="right"))
    (ratio,) = _exponentials(float(np.median(ordered)))
    if kept_out == 0:
        return Ratio(ratio, None)
    low, high = _exponentials(ordered[kept_out - 1], ordered[-kept_out])
    return Ratio(ratio, Interval(low=low, high=high, level=level))


def _exponentials(*logarithms: float) -> tuple[float, ...]:
    if any(abs(each) > FURTHEST for each in logarithms):
        raise ValueError("the figures of the two sides are too far apart to have a ratio")
    return tuple(math.exp(each) for each in logarithms)


@cache
def _signed_rank(rounds: int) -> npt.NDArray[np.float64]:
    """Return the distribution function of the signed-rank statistic."""
    chance = np.ones(1)
    for rank in range(1, rounds + 1):
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return np.asarray(np.cumsum(chance), np.float64)


@cache
def _rank_sum(fewer: int, more: int) -> npt.NDArray[np.float64]:
    """Return the distribution function of the Mann-Whitney statistic (Mann and Whitney 1947, their recursion)."""
    row = [np.ones(1) for _ in range(more + 1)]
    for one in range(1, fewer + 1):
        latest = [np.ones(1)]
        for other in range(1, more + 1):
            from_one, from_other = row[other], latest[other - 1]
            chance = np.zeros(one * other + 1)
            chance[other : other + from_one.size] += from_one * one / (one + other)
            chance[: from_other.size] += from_other * other / (one + other)
            latest.append(chance)
        row = latest
    return np.asarray(np.cumsum(row[more]), np.float64)


def _rank_sum_deviation(first: int, second: int) -> float:
    return math.sqrt(first * second * (first + second + 1) / 12)


def _standard_error(interval: Interval) -> float:
    wide = 2 * NormalDist().inv_cdf((1 + interval.level) / 2)
    return math.log(interval.high / interval.low) / wide
