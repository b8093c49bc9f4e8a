"""Ratios with exact intervals: against tables of the rank tests, and against what chance does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.ratios import (
    beside_control,
    joint_level,
    least_rounds,
    paired_ratio,
    ratio_of_estimates,
    separate_ratio,
)
from toolkit.results import Estimate, Interval


def test_the_level_of_several_intervals_together() -> None:
    assert joint_level(0) == joint_level(1) == pytest.approx(0.95)
    assert joint_level(10) == pytest.approx(0.995)


def test_a_paired_ratio_is_that_of_the_rounds_whatever_the_machine_did_between_them() -> None:
    speed = np.array([100.0, 50.0, 200.0, 80.0, 120.0, 90.0, 70.0])
    found = paired_ratio(speed, speed * 0.9, 0.95)
    assert found.ratio == pytest.approx(0.9)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.9), pytest.approx(0.9))


def test_the_interval_of_seven_pairs_begins_at_the_third_average() -> None:
    # Tables of the signed-rank test: P(T <= 2) = 3/128 = 0.0234 and P(T <= 3) = 5/128 = 0.0391 for n = 7.
    logarithms = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]) / 100
    found = paired_ratio(np.ones(7), np.exp(logarithms), 0.95)
    assert found.interval is not None
    assert math.log(found.interval.low) == pytest.approx(0.02)  # the averages begin 1, 1.5, 2, ...
    assert math.log(found.interval.high) == pytest.approx(0.40)  # and end with 40 = (64 + 16) / 2, 48, 64


def test_the_interval_of_five_and_five_begins_at_the_third_shift() -> None:
    # Tables of Mann and Whitney: P(U <= 2) = 4/252 = 0.0159 and P(U <= 3) = 7/252 = 0.0278 for 5 and 5.
    after = np.exp(np.array([0.0, 10.0, 20.0, 30.0, 40.0]) / 100)
    before = np.exp(-np.array([0.0, 1.0, 2.0, 3.0, 4.0]) / 100)
    found = separate_ratio(before, after, 0.95)
    assert found.interval is not None
    assert math.log(found.interval.low) == pytest.approx(0.02)
    assert math.log(found.interval.high) == pytest.approx(0.42)
    assert math.log(found.ratio) == pytest.approx(0.22)


def test_too_few_rounds_have_no_interval_of_a_high_level() -> None:
    assert paired_ratio([1.0] * 7, [1.0] * 7, joint_level(1)).interval is not None
    assert paired_ratio([1.0] * 7, [1.0] * 7, joint_level(8)).interval is None  # 2 / 2**7 is above 0.05 / 8
    assert paired_ratio([1.0], [2.0], 0.95).interval is None
    assert separate_ratio([1.0, 1.0], [2.0, 2.0], 0.95).interval is None


def test_the_longer_side_of_pairs_is_cut() -> None:
    assert paired_ratio([1.0, 1.0, 1.0], [2.0, 2.0], 0.5).ratio == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [-1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_figures_that_have_no_logarithm_are_refused(bad: list[float]) -> None:
    for first, second in ((bad, [1.0, 1.0]), ([1.0, 1.0], bad)):
        for ratio in (paired_ratio, separate_ratio):
            with pytest.raises(ValueError, match="above 0"):
                ratio(first, second, 0.95)


@pytest.mark.parametrize("rounds", [7, 15])
@pytest.mark.parametrize("tests", [1, 6])
def test_no_difference_is_called_more_often_than_promised(rounds: int, tests: int) -> None:
    """Times with long tails, and a machine that drifts between the rounds of pairs."""
    random = np.random.default_rng(rounds + tests)
    level, repetitions = joint_level(tests), 1000
    called = {"paired": 0, "separate": 0}
    for _ in range(repetitions):
        first, second = np.exp(random.standard_t(2, (2, rounds)) * 0.02)
        drift = np.exp(np.cumsum(random.normal(0, 0.1, rounds)))
        for name, found in (
            ("paired", paired_ratio(first * drift, second * drift, level)),
            ("separate", separate_ratio(first, second, level)),
        ):
            interval = found.interval
            called[name] += interval is not None and not interval.low <= 1 <= interval.high
    most = (1 - level) * repetitions
    assert all(count <= most + 3 * math.sqrt(most) for count in called.values()), called


def test_a_difference_is_found() -> None:
    random = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        drift = np.exp(np.cumsum(random.normal(0, 0.1, 15)))
        first, second = np.exp(random.normal(0, 0.03, (2, 15))) * drift
        interval = paired_ratio(first, second * 0.9, joint_level(6)).interval
        found += interval is not None and interval.high < 1
    assert found >= 95


def test_many_rounds_are_approximated_by_what_few_are_computed_by() -> None:
    random = np.random.default_rng(2)
    first, second = np.exp(random.normal(0, 0.05, (2, 61)))
    near, exact = separate_ratio(first, second, 0.99), separate_ratio(first[:60], second[:60], 0.99)
    assert near.interval is not None
    assert exact.interval is not None
    assert near.interval.low == pytest.approx(exact.interval.low, rel=0.01)
    assert near.interval.high == pytest.approx(exact.interval.high, rel=0.01)


def test_a_ratio_of_medians_with_intervals() -> None:
    def estimate(median: float, factor: float) -> Estimate:
        return Estimate(median=median, interval=Interval(low=median / factor, high=median * factor), rounds=7)

    found = ratio_of_estimates(estimate(100, 1.03), estimate(200, 1.04), 0.95)
    assert found.ratio == pytest.approx(2.0)
    assert found.interval is not None
    half = math.hypot(math.log(1.03), math.log(1.04))
    assert found.interval.high == pytest.approx(2 * math.exp(half))
    assert found.interval.low == pytest.approx(2 * math.exp(-half))
    with pytest.raises(ValueError, match="above 0"):
        ratio_of_estimates(estimate(0.0, 1.1), estimate(1.0, 1.1), 0.95)


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_medians_of_very_few_rounds_have_no_ratio(rounds: int) -> None:
    """Of three rounds an interval is from the smallest to the largest: one comparison of seven called a difference."""
    few = Estimate(median=100.0, interval=Interval(low=99.0, high=101.0), rounds=rounds)
    many = few.model_copy(update={"rounds": 0})
    for pair in ((few, many), (many, few)):
        with pytest.raises(ValueError, match="measure again with more"):
            ratio_of_estimates(*pair, 0.95)
    assert ratio_of_estimates(many, many, 0.95).interval is not None


@pytest.mark.parametrize(
    "interval",
    [
        Interval(low=100.0, high=100.0),
        Interval(low=101.0, high=102.0),
        Interval(low=103.0, high=99.0),
        Interval(low=99.0, high=101.0, level=0.0),
        Interval(low=99.0, high=101.0, level=1.0),
        Interval(low=99.0, high=101.0, level=math.nan),
        Interval(low=99.0, high=math.inf),
        Interval(low=0.0, high=101.0),
    ],
)
def test_what_is_no_interval_is_not_taken_for_certainty(interval: Interval) -> None:
    bad = Estimate(median=100.0, interval=interval, rounds=0)
    good = Estimate(median=100.0, interval=Interval(low=99.0, high=101.0), rounds=0)
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=r"interval|above 0"):
            ratio_of_estimates(*pair, 0.95)


def test_figures_that_no_machine_is_apart_by_have_no_ratio() -> None:
    for ratio in (paired_ratio, separate_ratio):
        with pytest.raises(ValueError, match="too far apart"):
            ratio([5e-324] * 12, [100.0] * 12, 0.95)


def test_rounds_that_an_interval_needs() -> None:
    for tests in (1, 2, 6, 100, 800):
        rounds = least_rounds(tests)
        level = joint_level(tests)
        assert paired_ratio([1.0] * rounds, [1.0] * rounds, level).interval is not None
        assert paired_ratio([1.0] * (rounds - 1), [1.0] * (rounds - 1), level).interval is None


@pytest.mark.parametrize("tests", [1, 6])
def test_intervals_hold_where_every_start_of_a_process_has_a_speed_of_its_own(tests: int) -> None:
    """The rank test alone takes rounds of one start for independent, and missed the truth in one case of five."""
    random, level, repetitions = np.random.default_rng(tests), joint_level(tests), 400
    missed = {"starts known": 0, "unknown": 0}
    for _ in range(repetitions):
        starts = np.repeat(random.normal(0, 0.014, 10), 3)  # 1% of either process
        second = np.exp(starts + 0.008 * random.standard_t(3, 30))
        for name, known in (("starts known", [3] * 10), ("unknown", [])):
            interval = paired_ratio(np.ones(30), second, level, known).interval
            assert interval is not None
            missed[name] += not interval.low <= 1 <= interval.high
    most = (1 - level) * repetitions
    assert missed["starts known"] <= most + 3 * math.sqrt(most)
    assert missed["unknown"] > 2 * most


def test_each_start_counts_once_whatever_one_of_its_rounds_did() -> None:
    rounds = [0.9, 0.9, 0.1, 0.8, 0.8, 0.8, 1.0, 5.0, 1.0]
    found = paired_ratio([1.0] * 9, rounds, 0.5, [3, 3, 3])
    assert found == paired_ratio([1.0] * 3, [0.9, 0.8, 1.0], 0.5)


def test_starts_without_a_round_are_left_out_and_three_of_them_are_too_few() -> None:
    assert paired_ratio([1.0] * 4, [2.0] * 4, 0.5, [2, 0, 2]) == paired_ratio([1.0] * 2, [2.0] * 2, 0.5)
    assert paired_ratio([1.0] * 30, [2.0] * 30, 0.95, [10] * 3).interval is None


def test_an_interval_beside_a_control_holds_with_and_without_what_the_machine_did() -> None:
    interval = Interval(low=0.9 / 1.03, high=0.9 * 1.03, level=0.99)
    slower = beside_control(interval, 0.9, (0.9, Interval(low=0.9 / 1.04, high=0.9 * 1.04)))
    assert slower.low == interval.low
    assert slower.high == pytest.approx(math.exp(math.hypot(math.log(1.03), math.log(1.04))))
    faster = beside_control(interval, 0.9, (1.1, Interval(low=1.1, high=1.1)))
    assert (faster.low, faster.high) == (pytest.approx(0.9 / 1.03 / 1.1), interval.high)
    assert (slower.level, faster.level) == (0.99, 0.99)
