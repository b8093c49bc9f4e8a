from __future__ import annotations

import time

import numpy as np
import pytest

from toolkit.formats.quantization.timing import images_per_second


class Clock:
    """A clock that only sessions move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """Takes given seconds per call, in turn; notes in which order sessions are called."""

    def __init__(self, name: str, clock: Clock, calls: list[str], *seconds: float) -> None:
        self.name, self.clock, self.calls = name, clock, calls
        self.seconds = list(seconds)

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(self.name)
        self.clock.now += self.seconds.pop(0)
        return {}


def test_the_median_counts_and_the_first_call_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(time, "perf_counter", clock)
    fast, slow = Fake("fast", clock, calls, 100, 1, 50, 2), Fake("slow", clock, calls, 100, 8, 4, 400)
    assert images_per_second([fast, slow], np.zeros((16, 1)), rounds=3) == [16 / 2, 16 / 8]
    assert calls == ["fast", "slow"] * 4
