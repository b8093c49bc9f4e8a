"""The clocks as a port, so that the arithmetic of a benchmark can be tested exactly."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and how much of it this process has computed."""

    def now(self) -> float:
        """Return seconds since some fixed moment; never goes backwards."""

    def processor(self) -> float:
        """Return seconds of processor time of all threads of this process."""


class MonotonicClock:
    """The clock of the machine, with the best resolution it has."""

    def now(self) -> float:
        """Return ``time.perf_counter()``."""
        return time.perf_counter()

    def processor(self) -> float:
        """Return ``time.process_time()``."""
        return time.process_time()
