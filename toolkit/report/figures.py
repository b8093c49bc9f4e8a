"""Numbers as a person reads them: three significant digits, the unit said once."""

from __future__ import annotations

import math

from toolkit.results import Estimate, Interval

NONE = "-"
"""Stands where there is no figure."""


def decimals(value: float) -> int:
    """Return how many decimals show about three significant digits of ``value``, at most 3."""
    size = abs(value)
    if not math.isfinite(size) or size >= 99.95:
        return 0
    if size >= 9.995:
        return 1
    return 2 if size >= 0.9995 else 3


def number(value: float) -> str:
    """Return a plain number with about three significant digits."""
    return f"{value:.{decimals(value)}f}"


def estimate(value: Estimate) -> str:
    """Return ``median [low, high]``, all with the decimals of the median."""
    places = decimals(value.median)
    return f"{value.median:.{places}f} [{value.interval.low:.{places}f}, {value.interval.high:.{places}f}]"


def milliseconds(seconds: float | None) -> str:
    """Return milliseconds without the unit."""
    return NONE if seconds is None else number(seconds * 1000)


def megabytes(size: int | None) -> str:
    """Return decimal megabytes without the unit."""
    return NONE if size is None else number(size / 1e6)


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal; ``100.0%`` is all of it, and ``0.0%`` is nothing."""
    if share is None:
        return NONE
    if share < 1 <= round(share, 3):
        return ">99.9%"
    return "<0.1%" if round(share, 3) <= 0 < share else f"{share:.1%}"


def percent_interval(share: float | None, interval: Interval | None) -> str:
    """Return ``98.1% [96.1, 99.1]``."""
    if share is None or interval is None:
        return percent(share)
    return f"{percent(share)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points(difference: float, interval: Interval) -> str:
    """Return a difference of two shares in percentage points: ``-0.2 [-0.9, 0.4]``."""
    return f"{100 * difference:+.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def ratio(value: float | None) -> str:
    """Return ``1.31x``, ``31.1x``, ``311x``."""
    return NONE if value is None else f"{value:.{_decimals_of_ratio(value)}f}x"


def ratio_interval(value: Estimate) -> str:
    """Return ``1.31x [1.28, 1.34]``, the interval with the decimals of the ratio."""
    places = _decimals_of_ratio(value.median)
    return f"{value.median:.{places}f}x [{value.interval.low:.{places}f}, {value.interval.high:.{places}f}]"


def _decimals_of_ratio(value: float) -> int:
    return min(2, decimals(value))


def billions(value: float | None) -> str:
    """Return billions without the unit."""
    return NONE if value is None else number(value / 1e9)


def scientific(value: float) -> str:
    """Return an error as ``1.2e-06``, and an exact 0 as ``0``."""
    return "0" if value == 0 else f"{value:.1e}"
