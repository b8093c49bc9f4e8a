"""Timing an opened session, call by call."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock

MIN_CALLS = 3
STABLE_WINDOWS = 3
"""How many windows in a row must agree before times count as stable."""
STABLE_WITHIN = 1.05
"""The largest median of these windows over the smallest."""
WINDOW_SHARE = 0.5
"""A window is as many calls as fill this share of a round."""
WARM_UP_ROUNDS = 10
"""Warm-up ends at the latest when it has taken as long as this many rounds, the first call not counted."""


class Runner(Protocol):
    """What is timed: a session, or its call with everything on the device."""

    def run(self, inputs: npt.NDArray[np.generic]) -> object:
        """Run one batch and wait until it is done."""


@dataclass(frozen=True)
class WarmUp:
    """What warm-up came to."""

    seconds: float
    """Of all its calls."""
    warm: bool
    """Whether times became stable."""


def measure_round(runner: Runner, inputs: npt.NDArray[np.generic], clock: Clock, min_seconds: float) -> list[float]:
    """Call ``runner.run`` at least 3 times and until ``min_seconds`` have been measured.

    ``run`` returns when the device has finished, so that no further synchronisation is needed.

    Args:
        runner: the model.
        inputs: one batch, as the graph takes it.
        clock: what measures.
        min_seconds: least total of the measured times.

    Returns:
        Seconds of each call, in order.
    """
    seconds: list[float] = []
    total = 0.0
    while len(seconds) < MIN_CALLS or total < min_seconds:
        seconds.append(_timed(runner, inputs, clock))
        total += seconds[-1]
    return seconds


def warm_up(runner: Runner, inputs: npt.NDArray[np.generic], clock: Clock, min_seconds: float) -> WarmUp:
    """Call ``runner.run`` until its times are stable. Nobody counts these calls.

    Engines compile, choose kernels and fill their memory pools in the first calls of each shape. Calls are grouped into
    windows of half a round, or of a single call where that takes longer. Times are stable once the medians of three
    windows in a row are within 5% of each other: one that goes on falling by 4% a window is not. The first call, which
    may compile, is no part of a window. After as long as 10 rounds warm-up ends, stable or not; one more window than is
    needed is always made.

    Args:
        runner: the model.
        inputs: one batch, as the graph takes it.
        clock: what measures.
        min_seconds: least measured time of a round.
    """
    first = _timed(runner, inputs, clock)
    medians: list[float] = []
    total = 0.0
    while not (stable := _stable(medians)) and (len(medians) <= STABLE_WINDOWS or total < WARM_UP_ROUNDS * min_seconds):
        window = [_timed(runner, inputs, clock)]
        while sum(window) < WINDOW_SHARE * min_seconds:
            window.append(_timed(runner, inputs, clock))
        medians.append(median(window))
        total += sum(window)
    return WarmUp(seconds=first + total, warm=stable)


def _stable(medians: list[float]) -> bool:
    last = medians[-STABLE_WINDOWS:]
    return len(last) == STABLE_WINDOWS and max(last) <= STABLE_WITHIN * min(last)


def _timed(runner: Runner, inputs: npt.NDArray[np.generic], clock: Clock) -> float:
    start = clock.now()
    runner.run(inputs)
    return clock.now() - start
