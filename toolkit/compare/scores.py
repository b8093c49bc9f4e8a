"""Whether two classifiers say the same of real images: agreement, divergence and accuracy, judged together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.compare.agreement import agreeing, top5_agreement
from toolkit.compare.divergence import divergence_statistics
from toolkit.compare.paired import paired_accuracy
from toolkit.compare.verdict import Outputs
from toolkit.results import Divergence, PairedAccuracy, Tolerance

CHANCE = 0.01
"""Disagreements that chance brings more often than this are not held against an artifact."""
SIGNIFICANT = 0.05
"""Level of the test of a loss of accuracy."""
CLASS_DROP = 10
"""A single class may lose this many times what all classes together may lose: it has fewer images, and quantisation
moves them unevenly."""
ENOUGH_IMAGES = 30
"""A mean divergence over fewer images than this is the divergence of its worst image."""


@dataclass(frozen=True)
class Scores:
    """What was found out, and what of it is not allowed."""

    failures: tuple[str, ...]
    images: int
    top1_agreement: float
    top5_agreement: float | None
    divergence: Divergence
    accuracy: PairedAccuracy | None


def score(
    reference: Outputs,
    actual: Outputs,
    targets: npt.NDArray[np.int64] | None,
    labels: Sequence[str],
    tolerance: Tolerance,
) -> Scores:
    """Compare what two classifiers say of the same images.

    Args:
        reference: ``logits`` and ``probabilities``, float32 ``[n, C]``, n at least 1.
        actual: the same of the artifact.
        targets: the true class of each image, ``[n]``; None where it is not known.
        labels: the C class names.
        tolerance: what is allowed.
    """
    images = len(reference["logits"])
    agreed = int(agreeing(reference["logits"], actual["logits"]).sum())
    divergence = divergence_statistics(reference["probabilities"], actual["probabilities"])
    failures = _disagreement(agreed, images, tolerance)
    if (
        tolerance.mean_divergence is not None
        and images >= ENOUGH_IMAGES
        and divergence.mean > tolerance.mean_divergence
    ):
        failures.append(
            f"the probabilities diverge by {divergence.mean:.3g} nats on average, allowed {tolerance.mean_divergence:g}"
        )
    accuracy = None
    if targets is not None:
        accuracy = paired_accuracy(_finite(reference), _finite(actual), targets, labels)
        failures += _lost_accuracy(accuracy, tolerance)
    top5 = top5_agreement(reference["logits"], actual["logits"])
    return Scores(tuple(failures), images, agreed / images, top5, divergence, accuracy)


def allowed_disagreements(images: int, agreement: float) -> int:
    """Return how many of n images may disagree.

    More would come by chance in fewer than 1% of draws if the true share were ``agreement``.

    The upper tail of the exact binomial test. A single disagreement among few images is thus no refusal.
    """
    miss = 1 - agreement
    if miss <= 0:
        return 0
    if miss >= 1:
        return images
    cumulative = 0.0
    for count in range(images + 1):
        log = math.lgamma(images + 1) - math.lgamma(count + 1) - math.lgamma(images - count + 1)
        cumulative += math.exp(log + count * math.log(miss) + (images - count) * math.log1p(-miss))
        if 1 - cumulative < CHANCE:
            return count
    return images


def _finite(outputs: Outputs) -> Outputs:
    """Replace what is not finite by zero, so that accuracy can be counted.

    The values themselves are told as a fault of their own.
    """
    return {name: np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) for name, values in outputs.items()}


def _disagreement(agreed: int, images: int, tolerance: Tolerance) -> list[str]:
    if tolerance.top1_agreement is None:
        return []
    allowed = allowed_disagreements(images, tolerance.top1_agreement)
    if images - agreed <= allowed:
        return []
    return [
        f"the most probable class differs on {images - agreed} of {images} test images, allowed {allowed} "
        f"(agreement {tolerance.top1_agreement:.1%}, with what chance explains)"
    ]


def _lost_accuracy(accuracy: PairedAccuracy, tolerance: Tolerance) -> list[str]:
    limit = tolerance.accuracy_drop
    if limit is None:
        return []
    failures = []
    if -accuracy.difference > limit and accuracy.p_value < SIGNIFICANT:
        interval = f"95% interval of the difference {accuracy.interval.low:+.2%} to {accuracy.interval.high:+.2%}"
        failures.append(
            f"accuracy falls by {-accuracy.difference:.2%} on {accuracy.images} test images ({interval}, p "
            f"{accuracy.p_value:.2g}), "
            f"allowed {limit:.2%}"
        )
    for entry in accuracy.classes:
        lost = (entry.reference_right - entry.artifact_right) / max(entry.support, 1)
        # Bonferroni: with many classes, one of them looks bad by chance.
        if lost > CLASS_DROP * limit and entry.p_value < SIGNIFICANT / len(accuracy.classes):
            failures.append(
                f"class {entry.label} is recognised on {entry.artifact_right} of {entry.support} images instead of "
                f"{entry.reference_right}"
            )
    return failures
