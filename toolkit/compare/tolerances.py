"""What a parity verdict allows: one table, by precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from toolkit.errors import RecipeError
from toolkit.results import Tolerance

# Two correct float32 engines add the same products in another order, fold BatchNorm into convolutions and choose other algorithms
# (Winograd, im2col). Each such choice costs a few units of 2**-24 relative to the values that are added; through the tens of layers of an image
# backbone that grows to 4e-6 of the largest logit in a ResNet-18 and 2e-5 in an EfficientNet-Lite0, edge inputs included. 1e-3 leaves room for
# networks ten times as sensitive and more, and stays below what a fault does: a lost layer, a swapped channel or a wrong mean moves logits by
# tenths, and bfloat16 arithmetic rounds every single value by up to 4e-3.
# The absolute part is a floor for rows whose logits are all close to zero.
# Softmax turns a logit error e into at most e / 2 of probability, so 1e-3 is the tighter bound once logits are larger than about 2: a service that
# acts on a probability sees the third decimal at most.
TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(precision="float32", logits_absolute=1e-4, logits_relative=1e-3, probabilities_absolute=1e-3),
}
"""Tolerance of each precision an artifact can have."""

FIELDS = ("logits_absolute", "logits_relative", "probabilities_absolute")
"""What can be overridden."""


def tolerance_for(precision: str, overrides: Mapping[str, float] | None = None) -> Tolerance:
    """Return the tolerance of a precision, with some of its values replaced.

    Args:
        precision: as in the manifest, e.g. ``float32``.
        overrides: new values by field name (``FIELDS``).

    Raises:
        RecipeError: no such field, a value that is negative or not finite, or a precision without a tolerance and not every value given.
    """
    changes = dict(overrides or {})
    if unknown := sorted(changes.keys() - set(FIELDS)):
        raise RecipeError(f"a tolerance has no {', '.join(unknown)}; it has {', '.join(FIELDS)}.")
    for field, value in changes.items():
        if not (math.isfinite(value) and value >= 0):
            raise RecipeError(f"the tolerance {field} cannot be {value}: give a number of 0 or more.")
    known = TOLERANCES.get(precision)
    if known is None and changes.keys() != set(FIELDS):
        raise RecipeError(f"there is no tolerance for precision {precision!r}, only for {', '.join(TOLERANCES)}: give {', '.join(FIELDS)} yourself.")
    values = {field: getattr(known, field) for field in FIELDS} if known else {}
    return Tolerance(precision=precision, **{**values, **changes})


def allowed_error(output: str, reference: npt.NDArray[np.floating], tolerance: Tolerance) -> npt.NDArray[np.float64]:
    """Return how far any element of each row may be from the reference.

    Args:
        output: ``logits`` or ``probabilities``.
        reference: floating point ``[n, C]``.
        tolerance: what is allowed.

    Returns:
        float64 ``[n]``.
    """
    if output == "probabilities":
        return np.full(len(reference), tolerance.probabilities_absolute)
    scale = np.abs(reference.astype(np.float64)).max(axis=1)
    return np.asarray(tolerance.logits_absolute + tolerance.logits_relative * scale, np.float64)
