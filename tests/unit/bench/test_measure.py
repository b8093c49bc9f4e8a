"""Exact arithmetic with a clock that moves only inside ``run``."""

import numpy as np
import pytest

from toolkit.bench.clock import MonotonicClock
from toolkit.bench.measure import measure_round, warm_up

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


def test_warm_up_runs_a_whole_round(clock):
    session = TimedSession(clock, [0.25] * 9)
    warm_up(session, INPUTS, clock, min_seconds=1.0)
    assert session.calls == 4


def test_an_error_of_the_session_is_not_swallowed(clock):
    with pytest.raises(StopIteration):
        measure_round(TimedSession(clock, []), INPUTS, clock, min_seconds=1.0)


def test_the_real_clock_does_not_go_backwards():
    real = MonotonicClock()
    assert real.now() <= real.now()
