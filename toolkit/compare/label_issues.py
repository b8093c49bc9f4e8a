"""Labels that are probably wrong: confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068).

A label is suspect where a classifier that was not trained on the image is as sure of another class as it usually is of
images with that class's label. What such a classifier says is the business of ``toolkit.compare.out_of_fold``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

ROWS = 10_000
"""Images whose probabilities are looked at together."""
DEVIATIONS = 2
"""Of the expected count, which is a sum of many rare events and varies by about its root: what may be chance."""


@dataclass(frozen=True, eq=False)
class ConfidentJoint:
    """Which images are confidently of which class, against what their labels say.

    Attributes:
        thresholds: float64 ``[C]``, how sure of each class the classifier usually is (equation 2 of the paper).
        counts: int64 ``[C, C]``, ``counts[i][j]``: images labelled i that are confidently of class j (equation 1).
        joint: float64 ``[C, C]``, the estimated share of all images that are labelled i and of class j; sums to 1
            (equation 3).
        confident: int64 ``[n]``, the class that each image is confidently of; -1 for none.
    """

    thresholds: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    joint: npt.NDArray[np.float64]
    confident: npt.NDArray[np.int64]


def confident_joint(probabilities: Probabilities, labels: Labels) -> ConfidentJoint:
    """Count images by label and by the class that they are confidently of.

    Args:
        probabilities: out of sample, ``[n, C]``, rows sum to 1.
        labels: given ones, ``[n]``, 0 to C - 1; n is at least 1.

    Raises:
        ValueError: shapes do not fit, or a label is out of range.
    """
    classes = _check(probabilities, labels)
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    images = np.bincount(labels, minlength=classes)
    # Nothing is confidently of a class that no label names.
    thresholds = np.where(images > 0, np.bincount(labels, given, classes) / np.maximum(images, 1), np.inf)
    confidently = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident = np.where(confidently.max(axis=1) >= 0, confidently.argmax(axis=1), -1)
    kept = confident >= 0
    pairs = labels[kept].astype(np.int64) * classes + confident[kept]
    counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
    # A class of which no image is confidently anything is taken as it is labelled.
    rows = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, np.eye(classes)).astype(np.float64)
    joint = rows / rows.sum(axis=1, keepdims=True) * images[:, None] / len(labels)
    return ConfidentJoint(thresholds, counts, joint, confident.astype(np.int64))


def off_diagonal(found: ConfidentJoint, images: int) -> int:
    """Return how many of ``images`` labels the joint takes for wrong: its mass off the diagonal."""
    return round(float(found.joint.sum() - found.joint.trace()) * images)


@dataclass(frozen=True)
class Surprise:
    """How many labels are more improbable than a classifier that knows its own uncertainty should meet.

    Attributes:
        wrong: the excess over what is to be expected, less ``DEVIATIONS`` standard deviations of that; 0 or more.
        listed: so many of the most improbable labels that at least half of them are in excess.
    """

    wrong: int
    listed: int


def surprise(probabilities: Probabilities, labels: Labels) -> Surprise:
    """Count labels that are improbable beyond what the probabilities themselves announce.

    If every label were drawn with the probabilities of its image, the number of labels that are at most as probable
    as t would be the sum of all probabilities up to t. What is beyond that, among the labels of which at least half
    are beyond it, is no uncertainty of the classifier. The mass off the diagonal of the confident joint is no such
    estimate: of a classifier that is right on 79% of CIFAR-10, where less than 1% of the labels are wrong, it is
    10%.

    Args:
        probabilities: as given to ``confident_joint``; calibrated.
        labels: as given there.
    """
    of_label = np.sort(probabilities[np.arange(len(labels)), labels].astype(np.float64))
    of_label = of_label[: np.searchsorted(of_label, 0.5)]
    expected = np.zeros(len(of_label) + 1)
    for start in range(0, len(labels), ROWS):
        each = probabilities[start : start + ROWS].ravel().astype(np.float64)
        # Equal ones stand together: what the last of them is as improbable as.
        expected += np.bincount(np.searchsorted(of_label, each), each, len(expected))
    expected = np.cumsum(expected[:-1])
    observed = np.searchsorted(of_label, of_label, side="right")
    # Further on, where most are to be expected, the excess tells how well calibrated the classifier is on the whole.
    mostly = np.flatnonzero(expected <= observed / 2)
    excess = (observed - expected - DEVIATIONS * np.sqrt(expected))[mostly]
    return Surprise(
        wrong=max(0, round(float(excess.max(initial=0)))), listed=int(observed[mostly[-1]]) if len(mostly) else 0
    )


def suspects(probabilities: Probabilities, labels: Labels, count: int) -> npt.NDArray[np.int64]:
    """Return the ``count`` most suspect images, the most suspect first.

    They are ranked by the probability of their label, the paper's self-confidence (where equal, by that of the most
    probable class, then by their order). An image whose label is the most probable class is never one of them.

    Args:
        probabilities: as given to ``confident_joint``.
        labels: as given there.
        count: at most so many.

    Returns:
        int64 ``[m]``, indices of images.
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    doubted = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.lexsort((doubted, -probabilities[doubted].max(axis=1), of_label[doubted]))
    return doubted[order][:count].astype(np.int64)


def _check(probabilities: Probabilities, labels: Labels) -> int:
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),) or not len(labels):
        raise ValueError(f"probabilities {list(probabilities.shape)} and labels {list(labels.shape)} do not fit")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, classes to {probabilities.shape[1] - 1}")
    return int(probabilities.shape[1])
