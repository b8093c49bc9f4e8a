"""Timing an opened session, call by call."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock
from toolkit.formats.base import Session

MIN_CALLS = 3


def measure_round(session: Session, inputs: npt.NDArray[np.generic], clock: Clock, min_seconds: float) -> list[float]:
    """Call ``session.run`` at least 3 times and until ``min_seconds`` have been measured.

    ``run`` returns arrays on the host, so a call on a GPU is over when it returns and no further synchronisation is
    needed.

    Args:
        session: the model.
        inputs: one batch, as the graph takes it.
        clock: what measures.
        min_seconds: least total of the measured times.

    Returns:
        Seconds of each call, in order.
    """
    seconds: list[float] = []
    total = 0.0
    while len(seconds) < MIN_CALLS or total < min_seconds:
        start = clock.now()
        session.run(inputs)
        taken = clock.now() - start
        seconds.append(taken)
        total += taken
    return seconds


def warm_up(session: Session, inputs: npt.NDArray[np.generic], clock: Clock, min_seconds: float) -> None:
    """Run a whole round that nobody counts.

    Engines compile, choose kernels and fill their memory pools in the first calls of each shape.
    """
    measure_round(session, inputs, clock, min_seconds)
