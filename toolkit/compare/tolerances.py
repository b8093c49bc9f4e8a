"""What a parity verdict allows: one table, by precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.errors import RecipeError
from toolkit.results import Tolerance

# Two correct float32 engines add the same products in another order, fold BatchNorm into convolutions and choose other
# algorithms (Winograd, im2col). Each such choice costs a few units of 2**-24 relative to the values that are added;
# through the tens of layers of an image backbone that grows to 4e-6 of the largest logit in a ResNet-18 and 2e-5 in an
# EfficientNet-Lite0, edge inputs included. 1e-3 leaves room for networks ten times as sensitive and more, and stays
# below what a fault does: a lost layer, a swapped channel or a wrong mean moves logits by tenths, and bfloat16
# arithmetic rounds every single value by up to 4e-3.
# The absolute part is a floor for rows whose logits are all close to zero.
# Softmax turns a logit error e into at most e / 2 of probability, so 1e-3 is the tighter bound once logits are larger
# than about 2: a service that acts on a probability sees the third decimal at most.
# Faults smaller than that are the business of ``rounding_multiple``: how far PyTorch itself in this precision is from
# float64 is measured on the network at hand, and correct engines stay within 3 times that in every family that is
# tested, whereas one layer whose weights lost 12 of their 24 bits, or one weight with the wrong sign, is at 50 times
# and more.
# float16 keeps 11 bits and bfloat16 8, so each layer rounds by up to 5e-4 and 4e-3; random EfficientNet-Lite0 weights
# end at 4e-3 and 3e-2.
# int8 changes every logit visibly by design: it is judged by what it says of real images, not by single values. Its
# self-consistency is not exact either, because a float value on the edge between two steps may fall to either side.
# Ranges that are far too wide do not show in what it says of easy images. In the networks that were looked at (60 to
# 150 quantised activations each) the median activation used all of its range on 512 test images and the least one 24%
# of it; of ranges four times too wide, a quarter is used.
TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(
        precision="float32",
        logits_absolute=1e-4,
        logits_relative=1e-3,
        probabilities_absolute=1e-3,
        rounding_multiple=10,
        self_relative=1e-4,
        softmax_absolute=1e-5,
        tensor_relative=1e-5,
    ),
    "float16": Tolerance(
        precision="float16",
        logits_absolute=2e-3,
        logits_relative=2e-2,
        probabilities_absolute=2e-2,
        rounding_multiple=4,
        self_relative=1e-2,
        softmax_absolute=2e-3,
        top1_agreement=0.99,
        accuracy_drop=0.005,
        mean_divergence=1e-3,
        tensor_relative=2e-2,
    ),
    "bfloat16": Tolerance(
        precision="bfloat16",
        logits_absolute=1e-2,
        logits_relative=0.1,
        probabilities_absolute=0.1,
        rounding_multiple=4,
        self_relative=5e-2,
        softmax_absolute=1e-2,
        top1_agreement=0.97,
        accuracy_drop=0.01,
        mean_divergence=1e-2,
        tensor_relative=0.1,
    ),
    "int8": Tolerance(
        precision="int8",
        logits_absolute=None,
        logits_relative=None,
        probabilities_absolute=None,
        self_relative=5e-2,
        softmax_absolute=5e-2,
        top1_agreement=0.95,
        accuracy_drop=0.01,
        mean_divergence=0.1,
        median_range_use=1 / 3,
        least_range_use=1 / 16,
        tensor_relative=0.25,
    ),
}
"""Tolerance of each precision an artifact can have."""

OTHER_WEIGHTS: dict[str, float | None] = {
    "logits_absolute": None,
    "logits_relative": None,
    "probabilities_absolute": None,
    "rounding_multiple": None,
    "top1_agreement": 0.95,
    "accuracy_drop": 0.01,
    "mean_divergence": None,
}
"""What replaces these limits where two bundles of different weights are compared: a new model may say it in other
figures."""

REQUIRED = ("logits_absolute", "logits_relative", "probabilities_absolute")
"""What must be given for a precision that the table does not have."""
FIELDS = tuple(name for name in Tolerance.model_fields if name != "precision")
"""What can be overridden."""
LEAST = ("top1_agreement", "median_range_use", "least_range_use")
"""Of these a larger value allows less; of the others a smaller one does."""


@dataclass(frozen=True)
class Limits:
    """What an artifact is held to, and what its bundle would have allowed instead."""

    tolerance: Tolerance
    notes: tuple[str, ...] = ()
    """One sentence on each limit that is not the usual one, or that the bundle carries and that was not used."""


def limits_for(precision: str, own: Tolerance | None = None, overrides: Mapping[str, float] | None = None) -> Limits:
    """Return what an artifact is held to: the table of its precision, which its own bundle may tighten and never widen.

    What a caller replaces counts in any case, and is told.

    Args:
        precision: what the artifact's format computes in.
        own: the limits that the bundle carries for it; None for a bundle that carries none.
        overrides: new values by field name (``FIELDS``), by the person who asks.

    Raises:
        RecipeError: see ``tolerance_for``.
    """
    changes, notes = _checked(overrides or {}), []
    if precision in TOLERANCES:
        tighter, wider = _beside(TOLERANCES[precision], own)
        tolerance = TOLERANCES[precision].model_copy(update=tighter)
        if unused := {field: value for field, value in wider.items() if field not in changes}:
            notes.append(
                f"the bundle's own limits are wider than {precision} allows and were not used: {_listed(unused)}; "
                f"used: {_listed({field: getattr(tolerance, field) for field in unused})}"
            )
    elif own is not None and not set(REQUIRED) <= changes.keys():
        tolerance = own.model_copy(update={"precision": precision})
        notes.append(f"there is no tolerance for precision {precision!r} here, so the limits are the bundle's own")
    else:
        tolerance = tolerance_for(precision, changes)
    usual = {field: getattr(tolerance, field) for field in changes}
    if replaced := {field: value for field, value in changes.items() if value != usual[field]}:
        notes.append(
            f"limits replaced by whoever asked: {_listed(replaced)}; usual: "
            f"{_listed({field: usual[field] for field in replaced})}"
        )
    return Limits(tolerance.model_copy(update=changes), tuple(notes))


def _beside(allowed: Tolerance, own: Tolerance | None) -> tuple[dict[str, float], dict[str, float | None]]:
    """Return which limits of a bundle are tighter than what is allowed, and which are wider.

    A limit that has the default of its record may come from a bundle of a time before that limit, and says nothing.
    """
    tighter: dict[str, float] = {}
    wider: dict[str, float | None] = {}
    for field in FIELDS if own is not None else ():
        ours, theirs = getattr(allowed, field), getattr(own, field)
        if theirs == ours or (field not in REQUIRED and theirs == Tolerance.model_fields[field].default):
            continue
        if theirs is not None and _allows_less(field, theirs, ours):
            tighter[field] = theirs
        else:
            wider[field] = theirs
    return tighter, wider


def _allows_less(field: str, theirs: float, ours: float | None) -> bool:
    """Say whether a limit is tighter than another one; NaN is not."""
    if ours is None:
        return math.isfinite(theirs)
    return theirs > ours if field in LEAST else theirs < ours


def _listed(limits: Mapping[str, float | None]) -> str:
    return ", ".join(f"{field} {'not judged' if value is None else f'{value:g}'}" for field, value in limits.items())


def tolerance_for(precision: str, overrides: Mapping[str, float] | None = None) -> Tolerance:
    """Return the tolerance of a precision, with some of its values replaced.

    Args:
        precision: as in the manifest, e.g. ``float32``.
        overrides: new values by field name (``FIELDS``).

    Raises:
        RecipeError: no such field, a value that is negative or not finite, or a precision without a tolerance and not
            every value given.
    """
    changes = _checked(overrides or {})
    known = TOLERANCES.get(precision)
    if known is not None:
        return known.model_copy(update=changes)
    if not set(REQUIRED) <= changes.keys():
        raise RecipeError(
            f"there is no tolerance for precision {precision!r}, only for {', '.join(TOLERANCES)}: give "
            f"{', '.join(REQUIRED)} yourself."
        )
    return Tolerance.model_validate({"precision": precision, **changes})


def _checked(overrides: Mapping[str, float]) -> dict[str, float]:
    """Return the replaced limits if each is one.

    Raises:
        RecipeError: see ``tolerance_for``.
    """
    if unknown := sorted(overrides.keys() - set(FIELDS)):
        raise RecipeError(f"a tolerance has no {', '.join(unknown)}; it has {', '.join(FIELDS)}.")
    for field, value in overrides.items():
        if not (math.isfinite(value) and value >= 0):
            raise RecipeError(f"the tolerance {field} cannot be {value}: give a number of 0 or more.")
    return dict(overrides)


def allowed_error(output: str, reference: npt.NDArray[np.floating], tolerance: Tolerance) -> npt.NDArray[np.float64]:
    """Return how far any element of each row may be from the reference.

    Args:
        output: ``logits`` or ``probabilities``.
        reference: floating point ``[n, C]``.
        tolerance: what is allowed.

    Returns:
        float64 ``[n]``; infinite where single errors are not judged.
    """
    if output == "probabilities":
        return np.full(
            len(reference), np.inf if tolerance.probabilities_absolute is None else tolerance.probabilities_absolute
        )
    if tolerance.logits_absolute is None or tolerance.logits_relative is None:
        return np.full(len(reference), np.inf)
    scale = np.abs(reference.astype(np.float64)).max(axis=1)
    return np.asarray(tolerance.logits_absolute + tolerance.logits_relative * scale, np.float64)
