"""How a benchmark is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypedDict

from toolkit import provenance
from toolkit.errors import ToolkitError, is_count, require_count, require_flag

LARGEST_ROUNDS = 1000
"""More would say nothing that these do not."""
LARGEST_SECONDS = 86_400.0
"""A day."""


@dataclass(frozen=True)
class BenchOptions:
    """What ``bench_run`` is told.

    Raises:
        ToolkitError: a count is out of range, or an option is of the wrong type.
    """

    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto`` for the CPU and CUDA where there is a GPU."""
    threads: int | None = None
    """CPU threads of every row; by default ``provenance.default_threads``."""
    batch_sizes: tuple[int, ...] = (1, 32)
    """Batch sizes to measure."""
    rounds: int = 24
    """Most interleaved rounds, at most 1,000; a row stops after 7 of them or more once its interval is narrow."""
    min_seconds: float = 0.1
    """Least measured time per row, batch size and round."""
    accuracy_images: int | None = None
    """How many test images to measure accuracy on, drawn at random; all by default."""
    allow_code: bool = False
    """Open artifacts that can carry code, whoever made the bundle."""
    max_seconds: float = 60.0
    """Measured time of a row at one batch size after which it stops; 3 rounds are made in any case."""
    precision: float | None = 0.03
    """Half the width of the 95% interval of a row's ratio to the reference, relative to its middle value, at which the
    row stops. None makes all rounds."""
    sweep: bool = False
    """Look for the best batch size, threads and parallel streams of each artifact."""
    end_to_end: bool = True
    """Measure also from the bytes of image files to labels."""

    def __post_init__(self) -> None:
        self._require_types()
        if self.rounds > LARGEST_ROUNDS:
            raise ToolkitError(f"rounds is {self.rounds}: give {LARGEST_ROUNDS} or fewer.")
        if not 0 <= self.min_seconds < math.inf:
            raise ToolkitError(f"min_seconds is {self.min_seconds}: give 0 or more seconds.")
        if not 0 < self.max_seconds <= LARGEST_SECONDS:
            raise ToolkitError(
                f"max_seconds is {self.max_seconds}: give more than 0 and at most {LARGEST_SECONDS:.0f} seconds."
            )
        if self.precision is not None and not 0 < self.precision < 1:
            raise ToolkitError(
                f"precision is {self.precision}: give a share between 0 and 1, e.g. 0.02, or None for all rounds."
            )

    def _require_types(self) -> None:
        if not isinstance(self.batch_sizes, Sequence):
            raise ToolkitError(f"batch_sizes is {self.batch_sizes!r}: give one or more whole numbers, e.g. (1, 8).")
        if not self.batch_sizes or not all(is_count(size) for size in self.batch_sizes):
            raise ToolkitError(
                f"batch sizes {list(self.batch_sizes)} cannot be measured: give one or more whole numbers of 1 or more."
            )
        for name in ("threads", "rounds", "accuracy_images"):
            value = getattr(self, name)
            if value is not None:
                require_count(name, value)
        for name in ("allow_code", "sweep", "end_to_end"):
            require_flag(name, getattr(self, name))
        for name in ("min_seconds", "max_seconds", "precision"):
            value = getattr(self, name)
            if not isinstance(value, Real) and (name, value) != ("precision", None):
                raise ToolkitError(f"{name} is {value!r}: give a number.")

    @property
    def thread_count(self) -> int:
        """How many threads that is."""
        return provenance.default_threads() if self.threads is None else self.threads


class Asked(TypedDict, total=False):
    """The fields of ``BenchOptions``, as arguments by name."""

    device: str
    threads: int | None
    batch_sizes: tuple[int, ...]
    rounds: int
    min_seconds: float
    accuracy_images: int | None
    allow_code: bool
    max_seconds: float
    precision: float | None
    sweep: bool
    end_to_end: bool
