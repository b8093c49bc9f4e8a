"""Two classifiers on the same labelled images: whether they differ in accuracy, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.compare.agreement import top1
from toolkit.compare.metrics import expected_calibration_error, wilson_interval
from toolkit.compare.verdict import Outputs
from toolkit.results import ClassDifference, Interval, PairedAccuracy

Right = npt.NDArray[np.bool_]


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p value of the exact McNemar test.

    A sign test over the images that only one side gets right (McNemar 1947).

    Args:
        only_first: images that only the first classifier gets right.
        only_second: images that only the second gets right.
    """
    disagreeing = only_first + only_second
    tail = sum(math.comb(disagreeing, count) for count in range(min(only_first, only_second) + 1))
    return min(1.0, tail / 2 ** (disagreeing - 1)) if disagreeing else 1.0


def paired_interval(both: int, only_first: int, only_second: int, neither: int, level: float = 0.95) -> Interval:
    """Return the interval of the difference of two paired proportions, first minus second.

    The square-and-add score interval of Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10: two Wilson
    intervals, joined with the correlation of the pairs.

    Args:
        both: images that both classifiers get right.
        only_first: that only the first gets right.
        only_second: that only the second gets right.
        neither: that neither gets right.
        level: confidence level.

    Raises:
        ValueError: there is no image.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        raise ValueError("no images were compared")
    first, second = (both + only_first) / n, (both + only_second) / n
    of_first, of_second = wilson_interval(both + only_first, n, level), wilson_interval(both + only_second, n, level)
    return _square_and_add((first, of_first), (second, of_second), _correlation(both, only_first, only_second, neither))


def separate_interval(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Return the interval of the difference of two proportions of different images, first minus second.

    The square-and-add score interval of Newcombe 1998, Statistics in Medicine 17:873-890, method 10.

    Args:
        first: a share.
        of_first: its Wilson score interval.
        second: another share.
        of_second: its interval, of the same level.
    """
    return _square_and_add((first, of_first), (second, of_second), 0.0)


def right_images(bits: str, images: int) -> Right:
    """Return which images were classified rightly, ``[images]``.

    Args:
        bits: as ``BenchRow.correct`` holds them.
        images: how many there are.

    Raises:
        ValueError: the text is not of so many images.
    """
    raw = np.frombuffer(bytes.fromhex(bits), np.uint8)
    if raw.size != -(-images // 8):
        raise ValueError(f"{raw.size} bytes are not one bit for each of {images} images")
    return np.unpackbits(raw)[:images].astype(np.bool_)


def paired_accuracy(
    reference: Outputs, actual: Outputs, targets: npt.NDArray[np.integer], labels: Sequence[str]
) -> PairedAccuracy:
    """Score two classifiers on the same images.

    Args:
        reference: ``logits`` and ``probabilities`` of the one, float32 ``[n, C]``, n at least 1, finite.
        actual: the same of the other.
        targets: the true class of each image, ``[n]``.
        labels: the C class names.
    """
    expected, given = top1(reference["logits"]) == targets, top1(actual["logits"]) == targets
    both, lost, won, neither = fourfold(expected, given)
    return PairedAccuracy(
        images=len(targets),
        reference_accuracy=float(expected.mean()),
        artifact_accuracy=float(given.mean()),
        difference=(won - lost) / len(targets),
        interval=paired_interval(both, won, lost, neither),
        only_reference_right=lost,
        only_artifact_right=won,
        p_value=exact_mcnemar(lost, won),
        reference_calibration_error=expected_calibration_error(reference["probabilities"], targets),
        artifact_calibration_error=expected_calibration_error(actual["probabilities"], targets),
        classes=tuple(
            _class_difference(expected, given, targets == index, label) for index, label in enumerate(labels)
        ),
    )


def _class_difference(expected: Right, given: Right, members: Right, label: str) -> ClassDifference:
    both, lost, won, neither = fourfold(expected[members], given[members])
    return ClassDifference(
        label=label,
        support=both + lost + won + neither,
        reference_right=both + lost,
        artifact_right=both + won,
        p_value=exact_mcnemar(lost, won),
    )


def fourfold(expected: Right, given: Right) -> tuple[int, int, int, int]:
    """Count images that both, only the reference, only the artifact, and neither get right."""
    return (
        int((expected & given).sum()),
        int((expected & ~given).sum()),
        int((~expected & given).sum()),
        int((~expected & ~given).sum()),
    )


def _square_and_add(first: tuple[float, Interval], second: tuple[float, Interval], correlation: float) -> Interval:
    """Join two shares with their intervals to the interval of their difference, first minus second."""
    (share, interval), (other, of_other) = first, second
    difference = share - other

    def distance(left: float, right: float) -> float:
        return math.sqrt(max(0.0, left * left - 2 * correlation * left * right + right * right))

    return Interval(
        low=max(-1.0, difference - distance(share - interval.low, of_other.high - other)),
        high=min(1.0, difference + distance(interval.high - share, other - of_other.low)),
        level=interval.level,
    )


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Return phi of the fourfold table with Newcombe's continuity correction; 0 where a margin is empty."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    n = both + only_first + only_second + neither
    product = both * neither - only_first * only_second
    corrected = max(product - n / 2, 0.0) if product > 0 else float(product)
    return corrected / math.sqrt(margins)
