"""Figures from times, against values worked out by hand."""

import numpy as np
import pytest

from toolkit.bench.statistics import estimate, half_width, latency, paired_ratio, throughput


def test_throughput_is_all_images_over_all_time():
    assert throughput(32, [0.5, 1.0, 0.5]) == 48.0


def test_throughput_is_not_the_mean_of_rates():
    assert throughput(1, [0.1, 0.9]) == pytest.approx(2.0)  # the mean of 10/s and 1.11/s would be 5.6


def test_latency_interpolates_linearly():
    result = latency([0.4, 0.1, 0.3, 0.2, 0.5])
    assert (result.p50_seconds, result.calls) == (0.3, 5)
    assert result.p95_seconds == pytest.approx(0.48)
    assert result.p99_seconds == pytest.approx(0.496)


def test_the_whole_distribution_of_calls_is_kept():
    result = latency([float(value) for value in range(201)])
    assert result.percentiles_seconds == pytest.approx([2.0 * percent for percent in range(101)])


def test_estimate_of_one_round_has_no_width():
    result = estimate([7.0])
    assert (result.median, result.interval.low, result.interval.high, result.rounds) == (7.0, 7.0, 7.0, 1)


def test_estimate_is_the_median_inside_its_interval():
    result = estimate([10.0, 50.0, 11.0, 9.0, 12.0])
    assert result.median == 11.0
    assert 9.0 <= result.interval.low < 11.0 < result.interval.high <= 50.0


def test_estimate_of_three_rounds_has_the_exact_bootstrap_percentiles():
    # A resample of three has the smallest value as its median with probability 7/27, far above 2.5%, and so has the
    # largest.
    result = estimate([1.0, 2.0, 3.0])
    assert (result.interval.low, result.interval.high) == (1.0, 3.0)


@pytest.mark.parametrize(("rounds", "level"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.95), (24, 0.95)])
def test_the_level_of_an_interval_is_what_so_few_rounds_can_hold(rounds: int, level: float) -> None:
    assert estimate([float(value) for value in range(1, rounds + 1)]).interval.level == level


@pytest.mark.parametrize("rounds", [3, 4, 5])
def test_the_range_of_few_rounds_holds_the_median_as_often_as_its_level_says(rounds: int) -> None:
    random = np.random.default_rng(0)
    cases = [estimate(random.normal(100, 3, rounds).tolist(), seed=case).interval for case in range(500)]
    held = sum(case.low <= 100 <= case.high for case in cases) / len(cases)
    assert held == pytest.approx(cases[0].level, abs=0.05)


def test_estimate_depends_on_its_seed_alone():
    values = list(np.random.default_rng(3).normal(100, 10, 30))
    assert estimate(values, seed=5) == estimate(values, seed=5)
    assert estimate(values, seed=5).interval != estimate(values, seed=6).interval


def test_the_interval_of_seven_rounds_is_their_range():
    # 1 in 98 resamples of seven has the smallest value as its median: inside the tails of a percentile interval, which
    # would therefore leave it out, and outside of the expanded ones.
    result = estimate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert (result.interval.low, result.interval.high) == (1.0, 7.0)


@pytest.mark.parametrize("rounds", [7, 9, 12])
def test_the_interval_holds_the_true_median_in_at_least_94_of_100_cases(rounds):
    random = np.random.default_rng(0)
    cases = [estimate(random.normal(100, 3, rounds).tolist(), seed=case).interval for case in range(500)]
    assert sum(case.low <= 100 <= case.high for case in cases) / len(cases) >= 0.94


def test_a_ratio_is_taken_round_by_round():
    # In the second round everything ran at half the speed: the ratio of the medians would be 2.2 / 1.1.
    own, reference = [2.0, 1.1, 2.2, 2.4], [1.0, 0.5, 1.1, 1.2]
    result = paired_ratio(own, reference)
    assert (result.median, result.rounds) == (2.0, 4)
    assert (result.interval.low, result.interval.high) == (2.0, 2.2)


def test_rounds_that_only_one_side_made_are_left_out():
    assert paired_ratio([2.0, 4.0], [1.0, 2.0, 100.0]).rounds == 2


def test_half_the_width_of_an_interval_is_relative():
    assert half_width(estimate([9.0, 10.0, 11.0])) == pytest.approx(0.1)
    assert half_width(estimate([10.0])) == float("inf")
