"""Accuracy without the images that training has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.compare.agreement import top1
from toolkit.compare.metrics import wilson_interval
from toolkit.results import Leak


def measure_leak(
    logits: npt.NDArray[np.floating],
    targets: npt.NDArray[np.integer],
    leaked: npt.NDArray[np.bool_],
    seen_in: Sequence[str],
    near: int,
) -> Leak | None:
    """Score a classifier on the images that are in no earlier split; None where all are.

    Args:
        logits: floating point ``[n, C]``.
        targets: the true class of each image, ``[n]``.
        leaked: which images are in an earlier split too, bool ``[n]``.
        seen_in: the earlier splits.
        near: how many of them are not the same byte for byte.
    """
    if not leaked.any():
        return None
    right = (top1(logits) == targets)[~leaked]
    return Leak(
        images=int(leaked.sum()),
        near=near,
        seen_in=tuple(seen_in),
        top1_without=float(right.mean()) if len(right) else None,
        top1_without_interval=wilson_interval(int(right.sum()), len(right)) if len(right) else None,
    )


def leak_sentence(leak: Leak, images: int, split: str) -> str:
    """Say what a leak does to an accuracy, without a full stop.

    Args:
        leak: of a split.
        images: of the split.
        split: its name.
    """
    near = f" ({leak.near} of them re-encoded, resized or cropped)" if leak.near else ""
    seen = (
        f"{leak.images} of {images} {split} images {'is' if leak.images == 1 else 'are'} also in "
        f"{' and '.join(leak.seen_in)}{near}"
    )
    if leak.top1_without is None or (interval := leak.top1_without_interval) is None:
        return f"{seen}: the accuracy says nothing about new images"
    return (
        f"{seen}; without them {leak.top1_without:.1%} ({interval.level:.0%} interval {interval.low:.1%} to "
        f"{interval.high:.1%})"
    )
