"""Names of somebody else, made short enough to stand beside an axis or below a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit.printable import printable


def middle(text: str, length: int = 40) -> str:
    """Return a name on one line, cut in the middle: names that begin alike often differ at the end."""
    shown = printable(" ".join(text.split()))
    half = (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[: length - 1 - half]}…{shown[-half:]}"


def distinct(names: Sequence[str], length: int) -> list[str]:
    """Return names that are cut, and differ where the whole ones do.

    Where a cut in the middle makes two alike, what all begin and end with goes; where that is not enough, their
    positions stand in front.
    """
    shown = [middle(name, length) for name in names]
    if _differ(shown, names):
        return shown
    shown = [middle(name, length) for name in _without_what_they_share(names)]
    if _differ(shown, names):
        return shown
    room = length - len(f"#{len(names)} ")
    return [f"#{position} {middle(name, room)}" for position, name in enumerate(names)]


def _differ(shown: Sequence[str], names: Sequence[str]) -> bool:
    return len(set(shown)) == len(set(names))


def _without_what_they_share(names: Sequence[str]) -> list[str]:
    """Return names without the words that all begin and end with."""
    begin = re.sub(r"\w+$", "", _common_beginning(names))
    rests = [name[len(begin) :] for name in names]
    end = re.sub(r"^\w+", "", _common_beginning([rest[::-1] for rest in rests])[::-1])
    return [
        ("…" if begin else "") + rest[: len(rest) - len(end)] + ("…" if end else "") if end != rest else rest
        for rest in rests
    ]


def _common_beginning(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length]
