"""Whether two sets of logits name the same class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.compare.tolerances import allowed_error
from toolkit.results import Flip, Tolerance

Array = npt.NDArray[np.floating]
FIVE = 5


def top1(logits: Array) -> npt.NDArray[np.int64]:
    """Return the most probable class of each row of ``[n, C]``; the first of equals."""
    return np.asarray(logits.argmax(axis=1), np.int64)


def agreeing(reference: Array, actual: Array) -> npt.NDArray[np.bool_]:
    """Return for each row of two arrays ``[n, C]`` whether both name the same class.

    A row that is not finite never agrees.
    """
    finite = np.isfinite(reference).all(axis=1) & np.isfinite(actual).all(axis=1)
    return np.asarray((top1(reference) == top1(actual)) & finite, np.bool_)


def top1_agreement(reference: Array, actual: Array) -> float:
    """Return the share of rows of two arrays ``[n, C]``, n at least 1, with the same most probable class."""
    return float(agreeing(reference, actual).mean())


def margins(logits: Array) -> npt.NDArray[np.float64]:
    """Return the difference of the two largest logits of each row of ``[n, C]``, C at least 2.

    NaN for a row that is not finite.
    """
    two = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):
        difference = two[:, 1] - two[:, 0]
    return np.where(np.isfinite(logits).all(axis=1), difference, np.nan)


def top5_agreement(reference: Array, actual: Array) -> float | None:
    """Return the share of rows of two arrays ``[n, C]`` whose most probable class is among the other's five.

    None for fewer than 6 classes.
    """
    if reference.shape[1] <= FIVE:
        return None
    best = np.argsort(-actual, axis=1, kind="stable")[:, :FIVE]
    return float((best == top1(reference)[:, None]).any(axis=1).mean())


def find_flips(
    inputs: Sequence[str],
    reference: Array,
    actual: Array,
    labels: Sequence[str],
    tolerance: Tolerance,
    batch_size: int,
    true_labels: Sequence[str | None] | None = None,
) -> list[Flip]:
    """Return one record for each row whose most probable class differs.

    Two logits that each move by the allowed error can close a gap of twice that; a flip over a wider gap has no excuse
    and counts.

    Args:
        inputs: name of each row.
        reference: logits, floating point ``[n, C]``.
        actual: logits, floating point ``[n, C]``.
        labels: the C class names.
        tolerance: what is allowed.
        batch_size: how many inputs the artifact was given at once, for the record.
        true_labels: class of each row, None where it is not known.
    """
    expected, given = top1(reference), top1(actual)
    gaps, own = margins(reference), margins(actual)
    explained = 2 * allowed_error("logits", reference, tolerance)
    return [
        Flip(
            input=inputs[row],
            batch_size=batch_size,
            reference_label=labels[expected[row]],
            artifact_label=labels[given[row]],
            reference_margin=float(gaps[row]),
            counted=not gaps[row] <= explained[row],
            artifact_margin=float(own[row]),
            true_label=true_labels[row] if true_labels else None,
        )
        for row in np.flatnonzero(expected != given).tolist()
    ]
