"""How a benchmark is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit import provenance
from toolkit.errors import ToolkitError, is_count, require_count


@dataclass(frozen=True)
class BenchOptions:
    """What ``bench_run`` is told.

    Raises:
        ToolkitError: a count is out of range.
    """

    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto`` for the CPU and CUDA where there is a GPU."""
    threads: int | None = None
    """CPU threads of every row; by default ``provenance.default_threads``."""
    batch_sizes: tuple[int, ...] = (1, 32)
    """Batch sizes to measure."""
    rounds: int = 7
    """Interleaved rounds; more of them narrow the intervals."""
    min_seconds: float = 0.15
    """Least measured time per row, batch size and round."""
    accuracy_images: int | None = None
    """How many test images to measure accuracy on, drawn at random; all by default."""
    allow_code: bool = False
    """Open artifacts that can carry code, whoever made the bundle."""
    sweep: bool = False
    """Look for the best batch size, threads and parallel streams of each artifact."""
    end_to_end: bool = True
    """Measure also from the bytes of image files to labels."""

    def __post_init__(self) -> None:
        if not self.batch_sizes or not all(is_count(size) for size in self.batch_sizes):
            raise ToolkitError(
                f"batch sizes {list(self.batch_sizes)} cannot be measured: give one or more whole numbers of 1 or more."
            )
        for name in ("threads", "rounds", "accuracy_images"):
            value = getattr(self, name)
            if value is not None:
                require_count(name, value)
        if not 0 <= self.min_seconds < math.inf:
            raise ToolkitError(f"min_seconds is {self.min_seconds}: give 0 or more seconds.")

    @property
    def thread_count(self) -> int:
        """How many threads that is."""
        return provenance.default_threads() if self.threads is None else self.threads
