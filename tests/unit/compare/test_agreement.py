from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.agreement import find_flips, margins, top1, top1_agreement
from toolkit.results import Tolerance

LABELS = ("cat", "dog", "eel")
TOLERANCE = Tolerance(precision="x", logits_absolute=0.1, logits_relative=0.1, probabilities_absolute=1.0)


def test_top1_takes_the_first_of_equals_and_agreement_is_a_share() -> None:
    reference = np.array([[1, 1, 0], [0, 2, 1], [0, 0, 3], [5, 0, 0]], np.float32)
    actual = np.array([[1, 0, 0], [0, 2, 1], [4, 0, 3], [5, 0, math.nan]], np.float32)
    assert top1(reference).tolist() == [0, 1, 2, 0]
    assert top1_agreement(reference, actual) == 0.5


def test_a_row_that_is_not_finite_never_agrees() -> None:
    reference = np.array([[5, 0, 0]], np.float32)
    infinite = np.array([[math.inf, 0, 0]], np.float32)
    assert top1(infinite).tolist() == top1(reference).tolist()
    assert top1_agreement(reference, infinite) == 0.0
    assert top1_agreement(infinite, reference) == 0.0


def test_margins() -> None:
    logits = np.array([[1, 4, 3.5], [-2, -5, -9], [1, 1, 0], [math.inf, math.inf, 0], [math.nan, 1, 0]], np.float32)
    assert margins(logits)[:3].tolist() == [0.5, 3.0, 0.0]
    assert np.isnan(margins(logits)[3:]).all()


@pytest.mark.parametrize(("margin", "counted"), [(2.0, False), (2.3, True)])
def test_a_flip_counts_above_twice_the_allowed_error(margin: float, counted: bool) -> None:
    # The largest logit is 10, so each logit may move by 0.1 + 1.0 and a gap of 2.2 can close.
    reference = np.array([[10.0, 10.0 - margin, 0.0]], np.float32)
    actual = np.array([[8.5, 9.0, 0.0]], np.float32)
    (flip,) = find_flips(["test/7"], reference, actual, LABELS, TOLERANCE, 3)
    assert flip.counted is counted
    assert (flip.input, flip.batch_size, flip.reference_label, flip.artifact_label) == ("test/7", 3, "cat", "dog")
    assert flip.reference_margin == pytest.approx(margin)


def test_no_flip_where_the_class_is_the_same_however_far_the_logits() -> None:
    assert (
        find_flips(["a"], np.array([[1, 0, 0]], np.float32), np.array([[99, 0, 0]], np.float32), LABELS, TOLERANCE, 1)
        == []
    )


def test_a_flip_from_a_reference_that_is_not_finite_has_no_excuse() -> None:
    reference = np.array([[1, math.inf, 0]], np.float32)
    (flip,) = find_flips(["a"], reference, np.array([[9, 0, 0]], np.float32), LABELS, TOLERANCE, 1)
    assert flip.counted
