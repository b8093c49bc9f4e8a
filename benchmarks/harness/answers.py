"""Whether two ways to do the same give the same answers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.harness.errors import BenchmarkError

Answers: TypeAlias = npt.NDArray[np.float32]
"""Logits or probabilities, ``[images, C]``."""

SAME_SHARE = 0.01
"""How far answers may be apart, as a share of how far those of different images are."""


def apart(answers: Answers) -> float:
    """Return how far the answers of different images are apart.

    Raises:
        BenchmarkError: all images get one answer, so that nobody could tell.
    """
    found = float(answers.std(axis=0).max())
    if not found > 0:
        raise BenchmarkError("every image gets the same answer, so nobody can tell whether two sides agree.")
    return found


def require_same(
    name: str, expected: Answers, answers: Answers, between: float | None = None, share: float = SAME_SHARE
) -> None:
    """Refuse answers that are not those that are expected, image by image.

    Args:
        name: of the side that gave them.
        expected: of each image.
        answers: of each image.
        between: how far the answers of different images are apart, if these are not enough to tell.
        share: of that, how far they may be off.

    Raises:
        BenchmarkError: they are not, or all images get one answer, so that nobody could tell.
    """
    limit = share * (apart(expected) if between is None else between)
    if answers.shape != expected.shape or not float(np.abs(answers - expected).max()) <= limit:
        raise BenchmarkError(f"the side {name!r} does not give the answers of the first one.")
