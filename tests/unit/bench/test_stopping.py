"""When a row has been measured long enough."""

from __future__ import annotations

import pytest

from toolkit.bench.statistics import estimate
from toolkit.bench.stopping import Stopping, is_settled

STOPPING = Stopping(rounds=12, max_seconds=10.0, precision=0.02)


def test_time_is_up_after_the_last_round() -> None:
    assert not STOPPING.time_is_up([[0.1]] * 11)
    assert STOPPING.time_is_up([[0.1]] * 12)


def test_time_is_up_once_the_calls_have_taken_it_but_not_before_three_rounds() -> None:
    assert not STOPPING.time_is_up([[9.0, 9.0]] * 2)
    assert STOPPING.time_is_up([[9.0, 9.0]] * 3)
    assert not STOPPING.time_is_up([[2.0], [2.0], [2.0], [3.9]])
    assert STOPPING.time_is_up([[2.0], [2.0], [2.0], [4.0]])


def test_fewer_rounds_than_that_are_never_exceeded() -> None:
    assert Stopping(rounds=1, max_seconds=10.0, precision=0.02).time_is_up([[0.1]])


def test_an_interval_is_not_looked_at_before_seven_rounds() -> None:
    assert not STOPPING.narrow([1.0] * 6, None)
    assert STOPPING.narrow([1.0] * 7, None)


def test_the_ratio_counts_where_there_is_a_reference() -> None:
    drifting = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert not STOPPING.narrow(drifting, None)
    assert STOPPING.narrow(drifting, [2 * rate for rate in drifting])


def test_how_narrow_is_narrow_enough() -> None:
    rates = [98.0, 99.0, 100.0, 100.0, 100.0, 101.0, 102.0]  # the interval of seven is their range
    assert STOPPING.narrow(rates, None)
    assert not STOPPING.narrow([97.0, *rates[1:]], None)


@pytest.mark.parametrize(("precision", "settled"), [(0.1, True), (0.099, False), (None, None)])
def test_settled(precision: float | None, settled: bool | None) -> None:
    assert is_settled(estimate([9.0, 10.0, 11.0]), precision) is settled


def test_a_single_round_settles_nothing() -> None:
    assert is_settled(estimate([10.0]), 0.5) is False
