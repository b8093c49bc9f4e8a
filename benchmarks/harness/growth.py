"""How time grows with the number of images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.report import Claim

LINEAR = 1.3
"""How many times the smallest slope the largest may be."""


def slopes(sizes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Return the seconds per additional 1,000 images between neighbouring sizes, which rise."""
    pairs = zip(zip(sizes, seconds, strict=True), list(zip(sizes, seconds, strict=True))[1:], strict=False)
    return [1000 * (after - before) / (larger - smaller) for (smaller, before), (larger, after) in pairs]


@dataclass(frozen=True)
class Line:
    """Seconds as a straight line over thousands of images."""

    fixed: float
    """Seconds at no image."""
    per_1000: float
    """Seconds of 1,000 more."""
    deviation: float
    """Largest distance of a point from the line, as a share of the line's value there."""

    def __str__(self) -> str:
        return f"{self.fixed:.1f} s + {self.per_1000:.2f} s per 1,000 images"


def fit_line(sizes: Sequence[int], seconds: Sequence[float]) -> Line:
    """Fit a straight line through at least two points by least squares."""
    slope, fixed = statistics.linear_regression([size / 1000 for size in sizes], seconds)
    fitted = [fixed + slope * size / 1000 for size in sizes]
    return Line(fixed, slope, max(abs(value - line) / abs(line) for value, line in zip(seconds, fitted, strict=True)))


def linear(sizes: Sequence[int], seconds: Sequence[float]) -> Claim:
    """Judge whether time is linear in the number of images."""
    rates = slopes(sizes, seconds)
    ratio = f"largest to smallest {max(rates) / min(rates):.2f}" if min(rates) > 0 else "time does not rise everywhere"
    return Claim(
        "time is linear: the seconds per additional 1,000 images between neighbouring sizes are within 30% of "
        "each other",
        f"{', '.join(f'{rate:.2f}' for rate in rates)}; {ratio}",
        min(rates) > 0 and max(rates) <= LINEAR * min(rates),
    )
