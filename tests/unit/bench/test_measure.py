"""Exact arithmetic with a clock that moves only inside ``run``."""

import numpy as np
import pytest

from toolkit.bench.clock import MonotonicClock
from toolkit.bench.measure import WarmUp, measure_round, warm_up

INPUTS = np.zeros((2, 4, 4, 3), np.uint8)


class TimedSession:
    device, engine, threads = "cpu", "fake", 1

    def __init__(self, clock, durations):
        self._clock = clock
        self._durations = iter(durations)
        self.calls = 0

    def run(self, inputs):
        assert inputs is INPUTS
        self.calls += 1
        self._clock.time += next(self._durations)
        return {}


def test_at_least_three_calls(clock):
    assert measure_round(TimedSession(clock, [1.0, 2.0, 4.0]), INPUTS, clock, min_seconds=0.5) == [1.0, 2.0, 4.0]


def test_until_the_time_has_passed(clock):
    assert measure_round(TimedSession(clock, [0.25] * 9), INPUTS, clock, min_seconds=1.25) == [0.25] * 5


def test_time_between_calls_does_not_count(clock):
    class Ticking:
        def now(self):
            clock.time += 0.5  # reading this clock takes half a second
            return clock.time

    assert measure_round(TimedSession(clock, [1.0] * 3), INPUTS, Ticking(), min_seconds=0.0) == [1.5] * 3


def test_warm_up_ends_once_three_windows_in_a_row_agree(clock):
    # A first call, then windows of half a second each: two calls of a quarter.
    session = TimedSession(clock, [3.0, *[0.25] * 20])
    assert warm_up(session, INPUTS, clock, min_seconds=1.0) == WarmUp(seconds=3.0 + 6 * 0.25, warm=True)
    assert session.calls == 7


def test_warm_up_goes_on_while_calls_become_faster(clock):
    # Windows of one call each, 6% faster from one to the next until they stay.
    falling = [0.94**step for step in range(6)]
    session = TimedSession(clock, [5.0, *falling, *[falling[-1]] * 9])
    done = warm_up(session, INPUTS, clock, min_seconds=1.0)
    assert done.warm
    assert session.calls == 1 + 6 + 2  # the last of the falling ones and two more like it


def test_a_slow_trend_is_not_stable(clock):
    # Each window is within 5% of the one before, but not of the one before that.
    session = TimedSession(clock, [1.0, *(0.97**step for step in range(500))])
    assert warm_up(session, INPUTS, clock, min_seconds=1.0).warm is False


def test_warm_up_that_never_becomes_stable_ends_after_the_time_of_ten_rounds(clock):
    session = TimedSession(clock, [7.0, *[1.0, 2.0] * 50])
    done = warm_up(session, INPUTS, clock, min_seconds=1.0)
    assert done.warm is False
    assert 10 <= done.seconds - 7.0 <= 12  # the first call, which may compile, does not count


def test_one_outlier_among_many_calls_does_not_keep_a_window_from_being_stable(clock):
    session = TimedSession(clock, [0.1, *([0.1] * 4 + [0.5] + [0.1] * 5) * 10])
    assert warm_up(session, INPUTS, clock, min_seconds=1.0).warm


def test_calls_longer_than_a_round_are_warm_after_four(clock):
    session = TimedSession(clock, [9.0] * 4)
    assert warm_up(session, INPUTS, clock, min_seconds=0.1) == WarmUp(seconds=36.0, warm=True)


def test_calls_longer_than_all_the_time_of_warm_up_are_tried_once_more(clock):
    session = TimedSession(clock, [9.0, 9.0, 7.0, 7.0, 7.0])
    assert warm_up(session, INPUTS, clock, min_seconds=0.1) == WarmUp(seconds=39.0, warm=True)


def test_an_error_of_the_session_is_not_swallowed(clock):
    with pytest.raises(StopIteration):
        measure_round(TimedSession(clock, []), INPUTS, clock, min_seconds=1.0)


def test_the_real_clock_does_not_go_backwards():
    real = MonotonicClock()
    assert real.now() <= real.now()
