"""How good a classifier is: the metrics of the evaluation and of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from toolkit.compare.agreement import top1
from toolkit.errors import TrainingError
from toolkit.results import CalibrationBin, ClassScore, Evaluation, Interval

Array = npt.NDArray[np.floating]
TOP5_MIN_CLASSES = 6
CALIBRATION_BINS = 15


def evaluate(logits: Array, targets: npt.NDArray[np.integer], labels: Sequence[str], split: str) -> Evaluation:
    """Score a classifier on one split.

    Args:
        logits: floating point ``[n, C]``.
        targets: the true class of each image, ``[n]``, 0 to C - 1.
        labels: the C class names in order.
        split: name of the split, for the record.

    Raises:
        TrainingError: a logit is NaN or infinite, so that there is no most probable class.
        ValueError: the shapes do not fit, a target is out of range, or there is no image.
    """
    _check(logits, targets, len(labels))
    images = len(targets)
    log_probabilities = _log_softmax(logits)
    confusion = confusion_matrix(top1(logits), targets, len(labels))
    right = int(confusion.trace())
    return Evaluation(
        split=split,
        images=images,
        top1=right / images,
        top1_interval=wilson_interval(right, images),
        top5=top_k_accuracy(logits, targets, 5) if len(labels) >= TOP5_MIN_CLASSES else None,
        loss=float(-log_probabilities[np.arange(images), targets].mean()),
        expected_calibration_error=expected_calibration_error(np.exp(log_probabilities), targets),
        classes=tuple(_class_score(confusion, index, label) for index, label in enumerate(labels)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Return the softmax of each row of ``[n, C]``, as float64."""
    return np.exp(_log_softmax(logits))


def top_k_accuracy(logits: Array, targets: npt.NDArray[np.integer], k: int) -> float:
    """Return the share of the n rows of ``[n, C]`` whose target is among the k largest logits.

    Of equals the first come first.
    """
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == targets[:, None]).any(axis=1).mean())


def loss_and_accuracy(logits: Array, targets: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Return the mean negative log likelihood in nats and the top-1 accuracy.

    The former is not a number where the logits of a network that has diverged are infinite or none.
    """
    with np.errstate(invalid="ignore"):
        log_probabilities = _log_softmax(logits)
    return float(-log_probabilities[np.arange(len(targets)), targets].mean()), float(
        (logits.argmax(axis=1) == targets).mean()
    )


def confusion_matrix(
    predictions: npt.NDArray[np.integer], targets: npt.NDArray[np.integer], classes: int
) -> npt.NDArray[np.int64]:
    """Return int64 ``[C, C]``: row is the true class, column the predicted one."""
    pairs = targets.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson 1927), 0 to 1 where n is 0.

    Raises:
        ValueError: ``successes`` is not within 0 to n, or the level not between 0 and 1.
    """
    if not (0 <= successes <= n and 0 < level < 1):
        raise ValueError(f"{successes} of {n} at level {level} is not a proportion with an interval")
    if n == 0:
        return Interval(low=0.0, high=1.0, level=level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bound is exact; rounding would put it beside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low=low, high=high, level=level)


def expected_calibration_error(
    probabilities: Array, targets: npt.NDArray[np.integer], bins: int = CALIBRATION_BINS
) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins ``(low, high]`` (Guo et al. 2017).

    Args:
        probabilities: floating point ``[n, C]``, n at least 1.
        targets: the true class of each image, ``[n]``.
        bins: how many bins.
    """
    confidence, right, index = _binned(probabilities, targets, bins)
    # The share of a bin times its gap is the difference of its sums over n.
    gaps = np.bincount(index, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def calibration_bins(
    probabilities: Array, targets: npt.NDArray[np.integer], bins: int = CALIBRATION_BINS
) -> tuple[CalibrationBin, ...]:
    """Return the bins that ``expected_calibration_error`` is a mean over, without the empty ones; see there."""
    confidence, right, index = _binned(probabilities, targets, bins)
    images = np.bincount(index, minlength=bins)
    confident, correct = (np.bincount(index, weights=each, minlength=bins) for each in (confidence, right))
    return tuple(
        CalibrationBin(
            low=place / bins,
            high=(place + 1) / bins,
            images=int(images[place]),
            confidence=float(confident[place] / images[place]),
            accuracy=float(correct[place] / images[place]),
        )
        for place in np.flatnonzero(images).tolist()
    )


def _binned(
    probabilities: Array, targets: npt.NDArray[np.integer], bins: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return of each image the confidence, whether it is right, and the number of its bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return confidence, top1(probabilities) == targets, index


def _check(logits: Array, targets: npt.NDArray[np.integer], classes: int) -> None:
    if logits.shape != (len(targets), classes) or targets.ndim != 1 or not len(targets):
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} do not fit {classes} classes")
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"targets go from {targets.min()} to {targets.max()}, classes from 0 to {classes - 1}")
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise TrainingError(
            f"{broken} of {len(logits)} images get logits that are NaN or infinite: the weights have diverged. Train "
            "with lower rates."
        )


def _log_softmax(logits: Array) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def _class_score(confusion: npt.NDArray[np.int64], index: int, label: str) -> ClassScore:
    right, support, predicted = (
        int(count) for count in (confusion[index, index], confusion[index].sum(), confusion[:, index].sum())
    )
    return ClassScore(
        label=label,
        support=support,
        precision=right / predicted if predicted else None,
        recall=right / support if support else None,
    )
