"""Measured numbers with their range or their interval, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.compare.metrics import wilson_interval
from toolkit.compare.paired import separate_interval
from toolkit.results import Interval

GIGABYTE = 10**9


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and the smallest and the largest."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Write the median, and the range where there is one, each as ``spec`` says."""
        median = format(self.median, spec)
        return median if self.low == self.high else f"{median} ({self.low:{spec}} to {self.high:{spec}})"

    def __str__(self) -> str:
        return f"{self:.1f}"


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Return the 95% Wilson interval of an accuracy over ``images`` images.

    A mean over several runs is rounded to whole images.
    """
    return wilson_interval(round(accuracy * images), images)


def difference_interval(accuracy: float, baseline: float, images: int) -> Interval:
    """Return the 95% interval of ``accuracy - baseline``, both over ``images`` images (Newcombe 1998, method 10).

    It takes the two as independent, which for the same test images is wider than a paired interval would be.
    """
    return separate_interval(
        accuracy, accuracy_interval(accuracy, images), baseline, accuracy_interval(baseline, images)
    )


def percent(accuracy: float, images: int) -> str:
    """Write an accuracy with its interval."""
    interval = accuracy_interval(accuracy, images)
    return f"{accuracy:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def megabytes(*sizes: int | None) -> str:
    """Write bytes in MB: one number, or the median of several with their range, or that they were not measured."""
    known = [size / 1e6 for size in sizes if size is not None]
    if not known:
        return "not measured"
    return f"{spread(known):,.0f}"
