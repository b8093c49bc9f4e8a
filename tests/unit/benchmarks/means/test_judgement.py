from __future__ import annotations

import numpy as np
import pytest

from benchmarks.means.catalogue import MEANS
from benchmarks.means.judgement import Measured, gain, table
from benchmarks.training_outcome import Outcome


def outcome(right: int, of: int = 100, seconds: float = 10.0, epochs: int = 9) -> Outcome:
    """Return one that gets the first images right."""
    return Outcome(np.arange(of) < right, seconds, epochs, np.zeros((of, 2), np.float32))


def test_a_gain_is_paired_by_seed_and_image() -> None:
    better = gain(MEANS[0], [outcome(80), outcome(70)], [outcome(90, seconds=15.0), outcome(80, seconds=20.0)])
    assert better.differences == pytest.approx((0.1, 0.1))
    assert better.interval.low == pytest.approx(0.1, abs=0.06)
    assert (better.cost, better.epochs, better.verdict) == (1.75, 9.0, "gains")
    same = gain(MEANS[0], [outcome(80)], [outcome(80)])
    assert (same.differences, same.verdict) == ((0.0,), "cannot be told")
    assert same.interval.low <= 0 <= same.interval.high
    assert gain(MEANS[0], [outcome(90)], [outcome(60)]).verdict == "loses"


def test_the_best_stands_first() -> None:
    changed = {means.name: [outcome(right)] for means, right in zip(MEANS, (70, 95), strict=False)}
    rows = table(Measured([outcome(80)], changed).gains).rows
    assert [row[0] for row in rows] == [MEANS[1].text, MEANS[0].text]
    assert rows[0][1].startswith("+15.00 [")


def test_what_was_refused_in_a_later_seed_has_no_gain() -> None:
    changed = {means.name: [outcome(70)] for means in MEANS[:2]}
    measured = Measured([outcome(80)], changed, {MEANS[0].name: "it has no branches."})
    assert [each.means.name for each in measured.gains] == [MEANS[1].name]
