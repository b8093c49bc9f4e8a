"""How unequal the classes are, and what a classifier that always gives the same answer would reach."""

from __future__ import annotations

from collections.abc import Sequence

STRONG = 5.0
"""The largest class has so many times the images of the smallest: with two classes, one answer is right on 83%."""


def strongly_imbalanced(counts: Sequence[int]) -> bool:
    """Tell whether the classes are so unequal that accuracy alone misleads.

    Args:
        counts: images per class.
    """
    return max(counts, default=0) >= STRONG * max(min(counts, default=0), 1)


def imbalance_line(
    train: Sequence[int], test: Sequence[int], labels: Sequence[str], weights: Sequence[float] | None
) -> str | None:
    """Say in one line how unequal the classes are; None where they are not.

    Args:
        train: training images per class.
        test: test images per class.
        labels: class names.
        weights: of the classes in the loss; None where all images count alike.
    """
    if not strongly_imbalanced(train):
        return None
    most, least = train.index(max(train)), train.index(min(train))
    done = (
        "--class-weights balanced lets all classes count alike in training"
        if weights is None
        else f"the loss weighs the classes from {min(weights):.3g} to {max(weights):.3g}"
    )
    return (
        f"strong imbalance: {labels[most]!r} has {train[most]} training images, {labels[least]!r} {train[least]} "
        f"({train[most] / max(train[least], 1):.3g} to 1), and always answering {labels[most]!r} would be right on "
        f"{test[most] / sum(test):.1%} of the test images; {done}"
    )
