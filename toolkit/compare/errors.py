"""How far one array of outputs is from another."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from toolkit.results import ErrorStatistics

Array = npt.NDArray[np.floating]


class ErrorAccumulator:
    """Error statistics of one output, over any number of batches.

    The absolute errors are kept, 4 bytes per element, so that a percentile is the one of all elements and not one of
    percentiles: 1,000 rows of 1,000 classes take 4 MB. Everything else is running sums.
    """

    def __init__(self) -> None:
        self._absolute: list[npt.NDArray[np.float32]] = []
        self._relative: list[npt.NDArray[np.float64]] = []
        self._elements = 0
        self._sum = 0.0
        self._max_absolute = 0.0
        self._min_cosine = 1.0
        self._finite = True

    def add(self, reference: Array, actual: Array) -> None:
        """Add one batch.

        Args:
            reference: floating point ``[n, C]``.
            actual: floating point ``[n, C]``.

        Raises:
            ValueError: the arrays are not two-dimensional or differ in shape.
        """
        if reference.ndim != 2 or reference.shape != actual.shape:
            raise ValueError(
                f"two arrays [n, C] of one shape are compared, not {list(reference.shape)} and {list(actual.shape)}"
            )
        if reference.size == 0:
            return
        self._elements += reference.size
        # Equal infinities count as well: their difference has no meaning, and no verdict may rest on them.
        self._finite = self._finite and bool(np.isfinite(reference).all() and np.isfinite(actual).all())
        if not self._finite:
            return
        expected, given = reference.astype(np.float64), actual.astype(np.float64)
        absolute = np.abs(given - expected)
        self._absolute.append(np.minimum(absolute, np.finfo(np.float32).max).astype(np.float32).ravel())
        self._sum += float(absolute.sum())
        self._max_absolute = max(self._max_absolute, float(absolute.max()))
        self._relative.append(relative_to_row(expected, absolute))
        self._min_cosine = min(self._min_cosine, float(_cosine(expected, given).min()))

    def statistics(self) -> ErrorStatistics:
        """Return the statistics of everything added.

        A NaN or an infinity anywhere, on either side, makes every error infinite and the cosine NaN, which no tolerance
        allows.

        Raises:
            ValueError: nothing was added.
        """
        if self._elements == 0:
            raise ValueError("no outputs were compared")
        if not self._finite:
            infinite = math.inf
            return ErrorStatistics(
                elements=self._elements,
                max_absolute=infinite,
                mean_absolute=infinite,
                p99_absolute=infinite,
                max_relative=infinite,
                min_cosine=math.nan,
                p50_absolute=infinite,
                p50_relative=infinite,
                p99_relative=infinite,
            )
        absolute, relative = np.concatenate(self._absolute), np.concatenate(self._relative)
        # A row without any reference value has an infinite relative error; the nearest rank keeps it from spreading to
        # its neighbours.
        rows = [float(value) for value in np.percentile(relative, (50, 99), method="nearest")]
        return ErrorStatistics(
            elements=self._elements,
            max_absolute=self._max_absolute,
            mean_absolute=self._sum / self._elements,
            p99_absolute=float(np.percentile(absolute, 99)),
            max_relative=float(relative.max()),
            min_cosine=self._min_cosine,
            p50_absolute=float(np.percentile(absolute, 50)),
            p50_relative=rows[0],
            p99_relative=rows[1],
        )


def error_statistics(reference: Array, actual: Array) -> ErrorStatistics:
    """Return the error statistics of ``actual`` against ``reference``, both floating point ``[n, C]``.

    Raises:
        ValueError: the shapes differ, are not two-dimensional, or hold nothing.
    """
    accumulator = ErrorAccumulator()
    accumulator.add(reference, actual)
    return accumulator.statistics()


def relative_to_row(expected: npt.NDArray[np.float64], absolute: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Largest error of each row over its largest reference value; 0 / 0 is no error, anything else / 0 is infinite."""
    scale, worst = np.abs(expected).max(axis=1), absolute.max(axis=1)
    infinite = np.where(worst > 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        return np.asarray(np.divide(worst, scale, out=infinite, where=scale > 0), np.float64)


def _cosine(expected: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine similarity of each row; a row of zeros is like another row of zeros (1) and unlike anything else (0)."""
    lengths = np.linalg.norm(expected, axis=1), np.linalg.norm(given, axis=1)
    both_zero = np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, 0.0)
    product = lengths[0] * lengths[1]
    cosine = np.divide((expected * given).sum(axis=1), product, out=both_zero, where=product > 0)
    return np.asarray(np.clip(cosine, -1.0, 1.0), np.float64)
