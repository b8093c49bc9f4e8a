"""How large an error is beside the one that arithmetic itself makes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from toolkit.compare.errors import relative_to_row
from toolkit.results import Rounding, Tolerance

Array = npt.NDArray[np.floating]

IMPLAUSIBLE = 3
"""Rounding that may be taken for this many times the limit of a single value is none that a network was seen with."""

ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half the distance from 1 to the next number: the error of a single rounding. No network is held to less than one."""


def relative_rms(exact: Array, actual: Array) -> float:
    """Return the root mean square over rows of the largest error of a row relative to its largest exact value.

    Args:
        exact: logits in float64, ``[n, C]``, n at least 1.
        actual: logits ``[n, C]``.

    Returns:
        0 or more; infinite where a value is not finite.
    """
    expected, given = exact.astype(np.float64), actual.astype(np.float64)
    if not (np.isfinite(expected).all() and np.isfinite(given).all()):
        return math.inf
    return float(np.sqrt(np.mean(relative_to_row(expected, np.abs(given - expected)) ** 2)))


def compare_rounding(exact: Array, actual: Array, reference: float, precision: str) -> Rounding:
    """Set the error of an artifact beside that of PyTorch in the same precision.

    Args:
        exact: logits in float64, ``[n, C]``.
        actual: logits of the artifact, ``[n, C]``.
        reference: ``relative_rms`` of PyTorch.
        precision: one of ``ROUNDOFF``.
    """
    own = relative_rms(exact, actual)
    return Rounding(
        images=len(exact), reference=reference, artifact=own, ratio=own / max(reference, ROUNDOFF[precision])
    )


def rounding_failure(rounding: Rounding, tolerance: Tolerance) -> list[str]:
    """Return a sentence if the error is larger than rounding explains."""
    if tolerance.rounding_multiple is None or rounding.ratio <= tolerance.rounding_multiple:
        return []
    return [
        f"logits differ by {rounding.artifact:.3g} of the largest on average (root mean square), {rounding.ratio:.0f} "
        "times what PyTorch loses by rounding "
        f"in {tolerance.precision} ({rounding.reference:.3g}), allowed {tolerance.rounding_multiple:g} times"
    ]


def allowed_typical_error(reference: float | None, precision: str, tolerance: Tolerance) -> float | None:
    """Return up to which ``relative_rms`` rounding explains the errors of an artifact; None where it is not judged.

    Args:
        reference: ``relative_rms`` of PyTorch in this precision; None where it was not measured.
        precision: of the artifact.
        tolerance: what is allowed.
    """
    if reference is None or tolerance.rounding_multiple is None or precision not in ROUNDOFF:
        return None
    return tolerance.rounding_multiple * max(reference, ROUNDOFF[precision])


def rounding_notes(reference: float, tolerance: Tolerance) -> tuple[str, ...]:
    """Return a sentence if a bundle says of its own rounding error what would let anything pass for rounding.

    Args:
        reference: ``relative_rms`` of PyTorch, as the bundle says.
        tolerance: what is allowed.
    """
    if tolerance.rounding_multiple is None or tolerance.logits_relative is None:
        return ()
    allowed = reference * tolerance.rounding_multiple
    if allowed <= IMPLAUSIBLE * tolerance.logits_relative:
        return ()
    return (
        f"the bundle says that rounding in {tolerance.precision} costs this network {reference:.3g}, so that errors of "
        f"{allowed:.3g} would pass for rounding; only single values were held to a limit "
        f"({tolerance.logits_relative:g})",
    )
