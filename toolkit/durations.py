"""Lengths of time as people read and write them."""

from __future__ import annotations

import re

from toolkit.errors import RecipeError


def duration(seconds: float) -> str:
    """Return a length of time for a person: ``40 s``, ``11 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def parse_duration(text: str) -> float:
    """Return seconds from ``90s``, ``20m``, ``1.5h``, ``1h30m`` or a plain number of seconds.

    Raises:
        RecipeError: it is none of these, or not positive.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    seconds = (
        sum(float(part) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True) if part)
        if parts
        else 0.0
    )
    if seconds <= 0:
        raise RecipeError(f"{text!r} is no length of time: give e.g. 90s, 20m, 1.5h or 1h30m.")
    return seconds
