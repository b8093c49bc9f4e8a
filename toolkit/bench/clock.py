"""The clock as a port, so that the arithmetic of a benchmark can be tested exactly."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return seconds since some fixed moment; never goes backwards."""


class MonotonicClock:
    """The clock of the machine, with the best resolution it has."""

    def now(self) -> float:
        """Return ``time.perf_counter()``."""
        return time.perf_counter()
