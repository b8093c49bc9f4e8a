"""An artifact compared with itself.

The same image must give the same outputs, whatever stands around it and came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.compare.verdict import Outputs
from toolkit.results import Tolerance

FLOOR = 0.1
"""Added to the largest absolute logit of a row, so that rows close to zero are not held to nothing."""


@dataclass(frozen=True)
class Difference:
    """The largest difference between two runs of the same images."""

    error: float
    """Share of the row's largest absolute logit, or of 1 for probabilities."""
    where: str
    """Which input and output."""
    bitwise: bool
    """Whether every bit is the same."""


def difference(names: Sequence[str], first: Outputs, again: Outputs) -> Difference:
    """Compare two runs of n images.

    Args:
        names: of the images.
        first: ``logits`` and ``probabilities``, float32 ``[n, C]``.
        again: the same, of another run.
    """
    worst = Difference(0.0, "", True)
    bitwise = all(np.array_equal(first[name].view(np.uint32), again[name].view(np.uint32)) for name in first)
    for name, expected in first.items():
        scale = np.abs(expected.astype(np.float64)).max(axis=1) + FLOOR if name == "logits" else np.ones(len(expected))
        with np.errstate(invalid="ignore"):
            error = np.abs(again[name].astype(np.float64) - expected).max(axis=1) / scale
        # Where both hold the same infinity or NaN the difference has no value; that fault is told by the comparison
        # with the reference.
        error = np.where(np.isfinite(error), error, np.where(_same(expected, again[name]), 0.0, np.inf))
        row = int(error.argmax())
        if error[row] > worst.error:
            worst = Difference(float(error[row]), f"{name} of {names[row]}", bitwise)
    return Difference(worst.error, worst.where, bitwise)


def inconsistency(difference: Difference, tolerance: Tolerance, what: str) -> list[str]:
    """Return a sentence if a difference is larger than is allowed; ``what`` says between which runs."""
    if difference.error <= tolerance.self_relative:
        return []
    return [f"{difference.where} differ by {difference.error:.3g} {what}, allowed {tolerance.self_relative:g}"]


def _same(
    first: np.ndarray[tuple[int, ...], np.dtype[np.float32]], again: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(((first == again) | (np.isnan(first) & np.isnan(again))).all(axis=1), np.bool_)
