"""Speed of several sessions, measured in turn so that all share the machine's ups and downs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.formats.base import Session

ROUNDS = 9


def images_per_second(
    sessions: Sequence[Session], inputs: npt.NDArray[np.generic], rounds: int = ROUNDS
) -> list[float]:
    """Return the median speed of each session over interleaved rounds, after one call that does not count.

    Args:
        sessions: what to measure.
        inputs: one encoded batch.
        rounds: timed calls of each session.
    """
    for session in sessions:
        session.run(inputs)
    seconds = np.empty((rounds, len(sessions)))
    for row in seconds:
        for position, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(inputs)
            row[position] = time.perf_counter() - start
    return [len(inputs) / float(median) for median in np.median(seconds, axis=0)]
