"""Pixels deeper than 8 bits: the rule by which their values become 0 to 255, and what part of their range they use."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import DataError

if TYPE_CHECKING:  # recipes name the rules, and help does not wait for numpy
    import numpy as np
    import numpy.typing as npt

HIGH_BYTE = "high byte: value // 256"
"""The rule that knows nothing of the data: 0..65535 becomes 0..255."""

_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,2})?"
RULE_PATTERN = rf"^(?:high byte: value // 256|linear: {_NUMBER}\.\.{_NUMBER} to 0\.\.255, rounded half up, clipped)$"
"""What ``Preprocessing.sixteen_bit`` can be."""
CHOICES = ("high-byte", "scale")
"""What a recipe can ask for, beside ``LOW..HIGH``."""

_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_LARGEST = 2.0**128
"""No 32-bit integer or float is larger."""
_CHUNK = 1 << 20

Kind = Literal["8 bits", "16 bits", "16 bits in colour", "32 bits"]


@dataclass(frozen=True)
class ValueRange:
    """The lowest and the highest value in one or more images.

    Attributes:
        kind: what the pixels are. Of colour with 16 bits Pillow gives the high byte only, so its values are those.
        low: the lowest.
        high: the highest.
        images: how many have this kind.
    """

    kind: Kind
    low: float
    high: float
    images: int = 1

    @property
    def limit(self) -> int:
        """The highest value that the kind can hold as it is read; 65535 for those that have none."""
        return 255 if self.kind in ("8 bits", "16 bits in colour") else 65535


def joined(ranges: Iterable[ValueRange]) -> tuple[ValueRange, ...]:
    """Join the ranges of images into one for each kind, in the order of the kinds' names."""
    by_kind: dict[Kind, ValueRange] = {}
    for one in ranges:
        so_far = by_kind.get(one.kind, one)
        by_kind[one.kind] = ValueRange(
            one.kind,
            min(so_far.low, one.low),
            max(so_far.high, one.high),
            one.images + (so_far.images if one.kind in by_kind else 0),
        )
    return tuple(by_kind[kind] for kind in sorted(by_kind))


def linear_rule(low: float, high: float) -> str:
    """Return the rule that spreads a range over 0..255; it names the numbers exactly."""
    return f"linear: {_number(low)}..{_number(high)} to 0..255, rounded half up, clipped"


@functools.cache
def range_of(text: str) -> tuple[float, float] | None:
    """Return the range that a rule or a recipe's choice names; None where it names none.

    Raises:
        ValueError: it does not go up, or a number is larger than pixels can be.
    """
    found = _RANGE.search(text)
    if found is None or text == HIGH_BYTE:
        return None
    low, high = float(found[1]), float(found[2])
    if not -_LARGEST <= low < high <= _LARGEST:
        raise ValueError(f"the range {found[0]} does not go up within what pixels hold: give LOW..HIGH, e.g. 0..4095")
    return low, high


def rule_for(choice: str, look: Callable[[], Iterable[ValueRange]]) -> str:
    """Return the rule that a recipe's choice comes to.

    Args:
        choice: ``high-byte``, ``scale`` or ``LOW..HIGH``.
        look: returns the values of the training images; asked for ``scale`` alone.

    Raises:
        DataError: there is nothing to scale.
    """
    if (ends := range_of(choice)) is not None:
        return linear_rule(*ends)
    if choice != "scale":
        return HIGH_BYTE
    deep = [one for one in look() if one.kind in ("16 bits", "32 bits")]
    low, high = min((one.low for one in deep), default=0.0), max((one.high for one in deep), default=0.0)
    if low >= high:
        what = f"all values in them are {_number(low)}" if deep else "there are none"
        raise DataError(
            f"--sixteen-bit scale takes its range from the grey training images of 16 or 32 bits, and {what}: leave it "
            "out, or give a range, e.g. --sixteen-bit 0..4095."
        )
    return linear_rule(low, high)


def check_choice(choice: str) -> str:
    """Return a recipe's choice as it is.

    Raises:
        ValueError: it is none.
    """
    if choice not in CHOICES and not _RANGE.fullmatch(choice):
        raise ValueError(f"{choice!r} is none of {', '.join(map(repr, CHOICES))} and no range of values, e.g. 0..4095")
    range_of(choice)
    return choice


def eight_bit(values: npt.NDArray[Any], rule: str) -> npt.NDArray[np.uint8]:
    """Bring deep pixels to 8 bits.

    ``linear`` computes ``floor((min(max(value, low), high) - low) * 255 / (high - low) + 0.5)`` in float64, which is
    exact for integers.

    Args:
        values: ``[h, w]``, any integers for a linear rule, 0..65535 for the high byte; finite floats.
        rule: see ``RULE_PATTERN``.

    Returns:
        uint8 ``[h, w]``.
    """
    import numpy as np

    ends = range_of(rule)
    if ends is None:
        return (values >> 8).astype(np.uint8)
    low, high = ends
    flat, result = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, values.size, _CHUNK):  # float64 takes eight bytes a pixel
        piece = np.clip(flat[start : start + _CHUNK].astype(np.float64), low, high)
        result[start : start + _CHUNK] = np.floor((piece - low) * 255 / (high - low) + 0.5)
    return result.reshape(values.shape)


def small_part(found: ValueRange) -> str | None:
    """Say that images use less than a quarter of the range that their pixels can hold; None if they use more."""
    if found.kind == "32 bits" or found.high - found.low >= (found.limit + 1) / 4:
        return None
    images = "1 training image" if found.images == 1 else f"{found.images} training images"
    used = f"{images} of {found.kind} use only the values {_number(found.low)}..{_number(found.high)}"
    if found.kind == "16 bits":
        low, high = int(found.low) >> 8, int(found.high) >> 8
        return (
            f"{used} of 0..65535, which become {low}..{high} of 0..255: spread them over the whole range with "
            "--sixteen-bit scale"
        )
    if found.kind == "16 bits in colour":
        return f"{used} of 0..255 once they are read: save them with 8 bits per channel, spread over the whole range"
    return f"{used} of 0..255: are they pictures, and not masks or indices?"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**63 else repr(float(value))
