"""The other ways to time: how many calls each makes, and what it makes of their times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import plain_timers
from benchmarks.plain_timers import METHODS, bare, clipped, timm, ultralytics


class Machine:
    """A clock that only calls move: each takes as long as the next of its times, again and again."""

    def __init__(self, times: list[float]) -> None:
        self.now, self.calls, self._times = 0.0, 0, times

    def perf_counter(self) -> float:
        return self.now

    def call(self) -> None:
        self.now += self._times[self.calls % len(self._times)]
        self.calls += 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def make(*times: float) -> Machine:
        made = Machine(list(times))
        monkeypatch.setattr(plain_timers.time, "perf_counter", made.perf_counter)
        return made

    return make


def test_timm_times_forty_calls_after_ten(machine) -> None:
    made = machine(*[5.0] * 10, *[0.5] * 40)
    assert timm(made.call, 0.0) == 2.0
    assert made.calls == 50


def test_ultralytics_warms_up_three_times_and_fills_its_least_time(machine) -> None:
    made = machine(0.01)
    assert ultralytics(made.call, 3.0) == pytest.approx(100)
    assert made.calls == 30 + round(3.0 / (0.1 + 1e-3) * 10)
    assert ultralytics(machine(0.01).call, 0.0) == pytest.approx(100)
    few = machine(0.01)
    ultralytics(few.call, 0.0)
    assert few.calls == 30 + 100


def test_what_is_two_deviations_away_is_left_out_again_and_again() -> None:
    # 99 and 1.9 go one after the other: with 99 among them nothing else is far away.
    values = np.array([1.0, 1.1] * 10 + [1.9, 99.0])
    assert clipped(values).max() == 1.1
    assert clipped(values, most=1).max() == 1.9
    assert clipped(np.ones(5)).tolist() == [1.0] * 5


def test_a_bare_loop_is_the_median_of_its_parts(machine) -> None:
    made = machine(0.25)
    assert bare(made.call, plain_timers.PARTS * 1.0) == 4.0
    assert made.calls == 4 * (plain_timers.PARTS + 1)


@pytest.mark.parametrize("method", METHODS)
def test_each_runs_as_a_process_of_its_own(method: str, colour_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 3), np.uint8))
    words = [method, str(colour_bundle / "model.onnx"), str(tmp_path / "images.npy"), "1", "0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_timers", *words],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) > 0
