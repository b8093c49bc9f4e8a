"""How far the probabilities of one classifier are from those of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from toolkit.results import Divergence

Array = npt.NDArray[np.floating]
LEAST = 1e-12
"""Probabilities are not taken as smaller than this: a zero would make one image outweigh all others."""


def kl_divergence(reference: Array, actual: Array) -> npt.NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of each row (Kullback, Leibler 1951), in nats.

    Args:
        reference: probabilities, floating point ``[n, C]``.
        actual: probabilities, floating point ``[n, C]``.

    Returns:
        float64 ``[n]``, 0 or more; infinite where a row is not finite.
    """
    p, q = (np.maximum(values.astype(np.float64), LEAST) for values in (reference, actual))
    with np.errstate(invalid="ignore"):
        divergence = np.maximum((p * (np.log(p) - np.log(q)) - p + q).sum(axis=1), 0.0)
    return np.where(np.isfinite(reference).all(axis=1) & np.isfinite(actual).all(axis=1), divergence, np.inf)


def divergence_statistics(reference: Array, actual: Array) -> Divergence:
    """Summarise ``kl_divergence`` over the rows of two arrays ``[n, C]``, n at least 1."""
    rows = kl_divergence(reference, actual)
    return Divergence(
        mean=float(rows.mean()), p99=float(np.percentile(rows, 99, method="nearest")), max=float(rows.max())
    )
