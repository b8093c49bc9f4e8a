"""A few golden samples whose single values are not judged: how many classes may differ, and by how much they diverge.

A program in any language can apply these limits, see docs/bundle.md. They are computed at export from what is expected
and from what the artifact itself says there, which another machine must say too, and stand beside the samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toolkit.compare.agreement import agreeing
from toolkit.compare.divergence import divergence_statistics
from toolkit.compare.rounding import relative_rms
from toolkit.compare.scores import allowed_disagreements
from toolkit.compare.verdict import OUTPUTS, Outputs
from toolkit.results import GoldenLimits, Tolerance

# An 8-bit file gives the same integers on every processor that adds its products without saturation; what engines do
# differently is to round at the edge of two of 255 levels. That is a fraction of what quantisation itself moves, so
# half as much again, or three times the divergence (which grows with the square of a change), leaves room for it;
# the second number is for files that hardly move anything.
ROOM_OF_DIVERGENCE = (3.0, 0.01)
ROOM_OF_EDGES = (1.5, 0.05)


@dataclass(frozen=True)
class GoldenScore:
    """What an artifact says of the golden samples beside what is expected."""

    failures: tuple[str, ...]
    """One sentence per reason."""
    different_classes: int
    """Of the images."""
    mean_divergence: float
    """Over the images, in nats."""
    edge_error: float | None
    """See ``GoldenLimits``; None where there are no edge inputs."""


def judged_by_class(tolerance: Tolerance) -> bool:
    """Say whether single values are not judged, so that limits of this module are."""
    return tolerance.logits_absolute is None and tolerance.top1_agreement is not None


def usual_limits(expected: Outputs, images: int, tolerance: Tolerance) -> GoldenLimits:
    """Return what a tolerance allows of so few images.

    Where probabilities diverge by d nats, no class gains or loses more than sqrt(d / 2) (Pinsker's inequality), so a
    class may differ where the two largest expected probabilities are within twice that, as far as the tolerance lets
    chance explain it; elsewhere it must be the same.

    Args:
        expected: ``logits`` and ``probabilities``, float32 ``[n, C]``, images first.
        images: how many of the n are images and not edge inputs, at least 1.
        tolerance: what is allowed of many images.
    """
    divergence = tolerance.mean_divergence
    largest = np.sort(expected["probabilities"][:images].astype(np.float64), axis=1)[:, -2:]
    closed = math.inf if divergence is None else math.sqrt(2 * divergence)
    unclear = int((largest[:, -1] - largest[:, 0] <= closed).sum())
    by_chance = allowed_disagreements(images, tolerance.top1_agreement or 0.0)
    return GoldenLimits(different_classes=min(unclear, by_chance), mean_divergence=divergence)


def measured_limits(expected: Outputs, actual: Outputs, images: int, tolerance: Tolerance) -> GoldenLimits:
    """Return the limits that an artifact gets at export: no wider than usual, and near to what it says there.

    Args:
        expected: see ``usual_limits``.
        actual: what the artifact says of the same samples.
        images: see ``usual_limits``.
        tolerance: see ``usual_limits``.
    """
    usual, own = usual_limits(expected, images, tolerance), score_golden(expected, actual, images)
    measured = GoldenLimits(
        different_classes=usual.different_classes,
        mean_divergence=_with_room(own.mean_divergence, ROOM_OF_DIVERGENCE),
        edge_error=_with_room(own.edge_error, ROOM_OF_EDGES),
    )
    return narrower(usual, measured)


def narrower(usual: GoldenLimits, own: GoldenLimits | None) -> GoldenLimits:
    """Return the usual limits, which those that a bundle carries may tighten and never widen."""
    if own is None:
        return usual
    divergences = [limit for limit in (usual.mean_divergence, own.mean_divergence) if limit is not None]
    return GoldenLimits(
        different_classes=min(usual.different_classes, own.different_classes),
        mean_divergence=min(divergences, default=None),
        edge_error=own.edge_error,
    )


def score_golden(expected: Outputs, actual: Outputs, images: int, limits: GoldenLimits | None = None) -> GoldenScore:
    """Compare what an artifact says of the golden samples with what is expected.

    Args:
        expected: ``logits`` and ``probabilities``, float32 ``[n, C]``, images first.
        actual: the same of the artifact, of the right form.
        images: how many of the n are images and not edge inputs, at least 1.
        limits: what is allowed; everything by default.
    """
    real, given = ({name: side[name][:images] for name in OUTPUTS} for side in (expected, actual))
    different = images - int(agreeing(real["logits"], given["logits"]).sum())
    divergence = divergence_statistics(real["probabilities"], given["probabilities"]).mean
    edges = None
    if len(expected["logits"]) > images:
        edges = relative_rms(expected["logits"][images:], actual["logits"][images:])
    return GoldenScore(_beyond(limits, images, different, divergence, edges), different, divergence, edges)


def _beyond(
    limits: GoldenLimits | None, images: int, different: int, divergence: float, edges: float | None
) -> tuple[str, ...]:
    if limits is None:
        return ()
    failures = []
    if different > limits.different_classes:
        failures.append(
            f"the most probable class differs on {different} of {images} golden images, allowed "
            f"{limits.different_classes}"
        )
    if limits.mean_divergence is not None and not divergence <= limits.mean_divergence:
        failures.append(
            f"the probabilities of the golden images diverge by {divergence:.3g} nats on average, allowed "
            f"{limits.mean_divergence:.3g}"
        )
    if edges is not None and limits.edge_error is not None and not edges <= limits.edge_error:
        failures.append(
            f"logits of the golden edge inputs differ by {edges:.3g} of the largest on average (root mean square), "
            f"allowed {limits.edge_error:.3g}"
        )
    return tuple(failures)


def _with_room(value: float | None, room: tuple[float, float]) -> float | None:
    """Return a limit above what was measured, with three digits for people who read it; None where it is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * room[0] + room[1]:.3g}")
