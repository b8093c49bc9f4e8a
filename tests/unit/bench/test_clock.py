from __future__ import annotations

import time

import pytest

from toolkit.bench.clock import Clock, MonotonicClock


def test_it_never_goes_backwards() -> None:
    clock: Clock = MonotonicClock()
    moments = [clock.now() for _ in range(1000)]
    assert moments == sorted(moments)


def test_it_counts_seconds_with_the_best_resolution_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 12.5)
    assert MonotonicClock().now() == 12.5


def test_processor_time_is_that_of_all_threads_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 3.5)
    assert MonotonicClock().processor() == 3.5
