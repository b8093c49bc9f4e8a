from __future__ import annotations

import numpy as np
import pytest

from benchmarks.means.catalogue import MEANS
from benchmarks.means.judgement import Measured, differences_of_images, gain, interval_over_images, table
from benchmarks.training_outcome import Outcome
from toolkit.results import Interval


def outcome(right: int, of: int = 100, seconds: float = 10.0, epochs: int = 9, first: int = 0) -> Outcome:
    """Return one that gets the first of some images right, which are numbered from some number on."""
    names = tuple(f"train/{first + index:05}" for index in range(of))
    return Outcome(names, np.arange(of) < right, seconds, epochs, np.zeros((of, 2), np.float32))


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_a_gain_is_paired_by_seed_and_image() -> None:
    better = gain(MEANS[0], [outcome(80), outcome(70)], [outcome(90, seconds=15.0), outcome(80, seconds=20.0)])
    assert better.differences == pytest.approx((0.1, 0.1))
    assert better.interval.low == pytest.approx(0.1, abs=0.06)
    assert (better.cost, better.epochs, better.verdict) == (1.75, 9.0, "gains")
    same = gain(MEANS[0], [outcome(80)], [outcome(80)])
    assert (same.differences, same.verdict) == ((0.0,), "cannot be told")
    assert same.interval.low <= 0 <= same.interval.high
    assert gain(MEANS[0], [outcome(90)], [outcome(60)]).verdict == "loses"


def test_the_interval_is_that_of_bonett_and_price() -> None:
    # Of 48 pairs 26 won and 4 lost: ci.prop.ps(.05, 12, 4, 26, 6), an example in the manual of R's package statpsych.
    interval = interval_over_images(np.repeat([1.0, -1.0, 0.0], [26, 4, 18]))
    assert (interval.low, interval.high, interval.level) == (
        pytest.approx(0.2548067, abs=1e-7),
        pytest.approx(0.6251933, abs=1e-7),
        0.95,
    )


def test_an_interval_has_a_width_and_ends_at_the_ends() -> None:
    same, all_won = interval_over_images(np.zeros(100)), interval_over_images(np.ones(3))
    assert same.low == -same.high < 0
    assert all_won.high == 1


def test_seeds_do_not_make_more_images_of_the_same_ones() -> None:
    once = gain(MEANS[0], [outcome(80)], [outcome(85)])
    thrice = gain(MEANS[0], [outcome(80)] * 3, [outcome(85)] * 3)
    assert thrice.interval == once.interval
    assert thrice.difference == once.difference == pytest.approx(0.05)
    assert thrice.differences == pytest.approx((0.05, 0.05, 0.05))


def test_other_images_do() -> None:
    once = gain(MEANS[0], [outcome(80)], [outcome(85)])
    both = gain(MEANS[0], [outcome(80), outcome(80, first=100)], [outcome(85), outcome(85, first=100)])
    half = gain(MEANS[0], [outcome(80), outcome(80, first=50)], [outcome(85), outcome(85, first=50)])
    assert both.difference == pytest.approx(0.05)
    assert both.interval == interval_over_images(np.repeat([1.0, 0.0], [10, 190]))
    assert width(both.interval) < width(half.interval) < width(once.interval)


def test_an_image_that_is_won_in_one_seed_and_lost_in_another_is_neither() -> None:
    # 80 to 84 are won and lost, 85 to 89 are won in one of two seeds.
    pairs = [(outcome(90), outcome(80)), (outcome(80), outcome(85))]
    assert differences_of_images(pairs).tolist() == [*[0.0] * 85, *[0.5] * 5, *[0.0] * 10]
    apart = gain(MEANS[0], [before for _, before in pairs], [after for after, _ in pairs])
    assert apart.difference == pytest.approx(0.025)
    assert apart.differences == pytest.approx((0.1, -0.05))


def test_an_image_that_two_seeds_hold_out_counts_once() -> None:
    # Image 1 is won in both seeds; 0 and 2, each held out in one of them, are not.
    (_, after), (_, before) = ((outcome(right, of=2), outcome(right, of=2, first=1)) for right in (1, 0))
    swapped = Outcome(outcome(0, of=2).names, np.array([False, True]), 10.0, 9, after.logits)
    shared = gain(MEANS[0], [outcome(0, of=2), before], [swapped, after])
    assert shared.differences == (0.5, 0.5)
    assert shared.difference == pytest.approx(1 / 3)


def test_the_best_stands_first() -> None:
    changed = {means.name: [outcome(right)] for means, right in zip(MEANS, (70, 95), strict=False)}
    rows = table(Measured([outcome(80)], changed).gains).rows
    assert [row[0] for row in rows] == [MEANS[1].text, MEANS[0].text]
    assert rows[0][1].startswith("+15.00 [")


def test_what_was_refused_in_a_later_seed_has_no_gain() -> None:
    changed = {means.name: [outcome(70)] for means in MEANS[:2]}
    measured = Measured([outcome(80)], changed, {MEANS[0].name: "it has no branches."})
    assert [each.means.name for each in measured.gains] == [MEANS[1].name]
