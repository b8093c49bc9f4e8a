"""Each claim can be met and missed, and what the tables show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.finetuners.arena import FASTAI, LIGHTNING, OURS, Outcome, Point, Round
from benchmarks.finetuners.judgement import claims, difference, level_of, shorter, tables
from benchmarks.harness.child import Run
from toolkit.compare.paired import paired_interval

IMAGES = 100


def outcome(*curve: tuple[float, float], wrong: Sequence[int] | None = None) -> Outcome:
    """One that gets the first images right in the end, or all but some."""
    points = tuple(Point(*point) for point in curve)
    right = np.arange(IMAGES) < round(IMAGES * points[-1].accuracy)
    if wrong is not None:
        right = ~np.isin(np.arange(IMAGES), wrong)
    return Outcome(points, right, Run(curve[-1][0] + 5, 10**9, 2 * 10**9, ""))


def rounds(*ours: Outcome, fastai: Outcome | None = None) -> list[Round]:
    """Seeds in which both peers end at 80% after 100 s."""
    peer = outcome((50.0, 0.85), (100.0, 0.80))
    return [{OURS: each, FASTAI: fastai or peer, LIGHTNING: peer} for each in ours]


def missed(measured: Sequence[Round], speedup: float = 5.0) -> list[str]:
    return [claim.text for claim in claims(measured, speedup) if not claim.met]


def test_the_time_is_to_where_the_peer_ends_not_to_its_best() -> None:
    ratio = shorter(rounds(outcome((10.0, 0.79), (20.0, 0.80), (40.0, 0.9))), FASTAI)
    assert ratio is not None
    assert ratio.ratio == pytest.approx(100 / 20)


def test_over_the_seeds_it_is_the_middle_with_all_of_them_as_interval() -> None:
    measured = rounds(*(outcome((seconds, 0.9)) for seconds in (10.0, 20.0, 40.0)))
    ratio = shorter(measured, FASTAI)
    assert ratio is not None
    assert ratio.interval is not None
    assert (ratio.ratio, ratio.interval.low, ratio.interval.high) == pytest.approx((5.0, 2.5, 10.0))
    assert ratio.interval.level == 0.75
    assert claims(measured, 5.0)[0].measured == "5.00x [2.50, 10.00] (75% over 3 seeds)"
    assert [level_of(seeds) for seeds in (2, 3, 5, 6, 20)] == [0.5, 0.75, 0.9375, 0.95, 0.95]


def test_one_seed_has_no_interval() -> None:
    assert claims(rounds(outcome((20.0, 0.9))), 5.0)[0].measured == "5.00x (of one seed)"


def test_a_seed_in_which_it_is_never_there_misses_the_claim() -> None:
    measured = rounds(outcome((1.0, 0.9)), outcome((1.0, 0.79)))
    assert shorter(measured, FASTAI) is None
    assert claims(measured, 5.0)[0].measured == "toolkit does not reach it in every seed"
    assert not claims(measured, 5.0)[0].met
    row = tables(measured)[1].rows[2]
    assert row == ("1", FASTAI, "80.00%", "100.0", "never: at most 79.00%", "-")


def test_the_sides_are_written_out_with_their_range() -> None:
    rows = tables(rounds(outcome((20.0, 0.9)), outcome((30.0, 0.8))))[0].rows
    assert rows[0] == (
        OURS,
        "25.0 (20.0 to 30.0)",
        "30.0 (25.0 to 35.0)",
        "85.0% [76.7, 90.7]",
        "1,000",
        "2,000",
    )
    assert rows[1][:3] == (FASTAI, "100.0", "105.0")


def test_claims_are_met_with_nothing_to_spare_and_missed_beyond() -> None:
    assert missed(rounds(outcome((20.0, 0.8)))) == []
    assert (
        missed(rounds(outcome((20.1, 0.8)))) == [claim.text for claim in claims(rounds(outcome((20.1, 0.8))), 5.0)][::2]
    )
    assert missed(rounds(outcome((20.1, 0.8))), speedup=4.9) == []


def test_each_peer_is_judged_by_itself() -> None:
    slow = outcome((1000.0, 0.8))
    fast = rounds(outcome((20.0, 0.8)), fastai=slow)
    assert [claim.measured.split("x")[0] for claim in claims(fast, 5.0)[::2]] == ["50.00", "5.00"]


def test_a_difference_is_paired_image_by_image() -> None:
    # 30 and 20 wrong, 10 of them wrong on both sides: 20 are lost and 10 won.
    ours = outcome((20.0, 0.7), wrong=range(30))
    theirs = outcome((100.0, 0.8), wrong=range(20, 40))
    apart = difference(rounds(ours, fastai=theirs), FASTAI)
    assert apart.mean == pytest.approx(-0.10)
    assert apart.interval == paired_interval(60, 10, 20, 10)


def test_seeds_do_not_make_more_images_of_the_same_ones() -> None:
    theirs = outcome((100.0, 0.8), wrong=range(20))
    once = difference(rounds(outcome((20.0, 0.7), wrong=range(30)), fastai=theirs), FASTAI)
    thrice = difference(rounds(*[outcome((20.0, 0.7), wrong=range(30))] * 3, fastai=theirs), FASTAI)
    assert thrice.interval == once.interval
    assert thrice.each == pytest.approx((-0.1, -0.1, -0.1))
    mixed = difference(
        rounds(outcome((20.0, 0.7), wrong=range(30)), outcome((20.0, 0.9), wrong=range(10)), fastai=theirs), FASTAI
    )
    assert mixed.mean == pytest.approx(0.0)
    assert mixed.each == pytest.approx((-0.1, 0.1))


def test_less_accurate_than_chance_allows_is_said() -> None:
    worse = rounds(outcome((1.0, 0.9), (2.0, 0.6), wrong=range(40)))
    assert [text.split(":")[0] for text in missed(worse)] == [
        f"final accuracy no worse than that of {peer}" for peer in (FASTAI, LIGHTNING)
    ]
    within = rounds(outcome((1.0, 0.9), (2.0, 0.79), wrong=range(79, 100)))
    assert missed(within) == []
