from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from toolkit.serving import strategy
from toolkit.serving.strategy import Measured, Way, choose, measure, measured, wait_seconds, ways

IMAGE = np.zeros((2, 2, 3), np.uint8)


def found(batch_size: int, calls: int, rate: float, seconds: float = 0.001) -> Measured:
    return Measured(Way(batch_size, calls, 1), rate, seconds)


def test_one_by_one_and_batches_are_tried_on_all_cores_and_on_one_each() -> None:
    assert ways(2) == [Way(1, 1, 2), Way(1, 2, 1), Way(8, 1, 2), Way(8, 2, 1), Way(32, 1, 2), Way(32, 2, 1)]
    assert ways(1) == [Way(1, 1, 1), Way(8, 1, 1), Way(32, 1, 1)]
    assert ways(16, batch_size=1) == [Way(1, 1, 16), Way(1, 4, 4), Way(1, 16, 1)]


def test_what_somebody_says_is_not_tried_otherwise() -> None:
    assert ways(8, threads=2, batch_size=4) == [Way(4, 4, 2)]
    assert ways(2, threads=16, batch_size=1) == [Way(1, 1, 16)]
    assert ways(4, batch_size=1) == [Way(1, 1, 4), Way(1, 4, 1)]


def test_a_batch_is_taken_only_where_it_gains_something() -> None:
    assert choose([found(1, 2, 100.0), found(8, 1, 109.0)]).way == Way(1, 2, 1)
    assert choose([found(1, 2, 100.0), found(8, 1, 111.0)]).way == Way(8, 1, 1)
    assert choose([found(1, 2, 100.0), found(8, 1, 300.0), found(32, 1, 310.0)]).way == Way(8, 1, 1)


def test_of_ways_without_batches_the_faster_one_is_taken() -> None:
    assert choose([found(1, 1, 95.0), found(1, 2, 100.0)]).way == Way(1, 2, 1)


def test_the_log_gets_all_figures() -> None:
    said = choose([found(1, 2, 100.4), found(8, 1, 50.0)]).why
    assert said == (
        "one by one, with 1 thread each, 2 at the same time (100 img/s measured here; in batches of up to 8, with 1 "
        "thread: 50)"
    )


def test_nobody_waits_where_images_share_no_call_and_nobody_waits_long() -> None:
    assert wait_seconds(found(1, 2, 100.0, 5.0)) == 0.0
    assert wait_seconds(found(8, 1, 100.0, 0.004)) == 0.002
    assert wait_seconds(found(8, 1, 100.0, 5.0)) == strategy.LONGEST_WAIT_SECONDS


def test_a_rate_is_that_of_all_calls_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "TRIAL_SECONDS", 0.1)
    inside: list[int] = []
    most = 0
    lock = threading.Lock()

    def run(batch: np.ndarray) -> None:
        nonlocal most
        assert batch.shape == (4, 2, 2, 3)
        with lock:
            inside.append(1)
            most = max(most, len(inside))
        time.sleep(0.01)
        with lock:
            inside.pop()

    one, two = (measure(Way(4, calls, 1), run, IMAGE) for calls in (1, 2))
    assert most == 2
    assert 1.5 < two.images_per_second / one.images_per_second < 2.5
    assert one.images_per_second == pytest.approx(400, rel=0.4)
    assert two.call_seconds == pytest.approx(0.01, rel=0.5)


def test_a_batch_that_would_take_too_long_is_not_even_tried() -> None:
    sizes: list[int] = []

    def run(batch: np.ndarray) -> None:
        sizes.append(len(batch))
        time.sleep(0.03 if len(batch) == 1 else 0.0)

    results = measured([Way(1, 1, 1), Way(8, 1, 1), Way(32, 1, 1)], lambda _: run, IMAGE)
    assert [result.way.batch_size for result in results] == [1]
    assert set(sizes) == {1}


def test_the_better_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([10.0, 30.0])
    monkeypatch.setattr(strategy, "measure", lambda way, *_: Measured(way, next(rates), 0.1))
    (result,) = measured([Way(1, 1, 1)], lambda _: lambda _: None, IMAGE)
    assert result.images_per_second == 30.0
