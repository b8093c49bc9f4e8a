from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from toolkit.compare.metrics import softmax, wilson_interval
from toolkit.compare.paired import (
    exact_mcnemar,
    paired_accuracy,
    paired_interval,
    right_images,
    separate_interval,
)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 6), (12, 2), (5, 5), (40, 61), (700, 500)])
def test_the_exact_test_is_the_two_sided_sign_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert exact_mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert exact_mcnemar(second, first) == exact_mcnemar(first, second)


def test_the_interval_of_published_examples() -> None:
    # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009), as worked out by Fagerland et
    # al. 2014: 1 both times, 1 only before, 7 only after, 12 never; before minus after is -0.286, interval -0.507
    # to -0.026.
    found = paired_interval(1, 1, 7, 12)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.507, -0.026)
    assert found.level == 0.95


def test_the_interval_mirrors_and_stays_within_its_bounds() -> None:
    for table in [(36, 12, 2, 0), (0, 5, 0, 0), (10, 0, 0, 0), (0, 0, 0, 3), (3, 7, 1, 2)]:
        both, first, second, neither = table
        one, other = paired_interval(*table), paired_interval(both, second, first, neither)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        difference = (first - second) / sum(table)
        assert -1 <= one.low <= difference <= one.high <= 1
    with pytest.raises(ValueError, match="no images"):
        paired_interval(0, 0, 0, 0)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    random, shares = np.random.default_rng(0), (0.85, 0.05, 0.02, 0.08)
    covered = 0
    for table in random.multinomial(300, shares, size=2000):
        found = paired_interval(*(int(count) for count in table))
        covered += found.low <= shares[1] - shares[2] <= found.high
    assert 0.93 < covered / 2000 < 0.985


def test_accuracy_is_counted_on_the_same_images() -> None:
    targets = np.array([0, 0, 1, 1, 2, 2])
    reference, artifact = (np.eye(3, dtype=np.float32)[said] * 4 for said in ([0, 0, 1, 1, 2, 0], [0, 1, 1, 0, 2, 2]))
    sides = [
        {"logits": logits, "probabilities": softmax(logits).astype(np.float32)} for logits in (reference, artifact)
    ]
    found = paired_accuracy(sides[0], sides[1], targets, ("a", "b", "c"))
    assert (found.images, found.only_reference_right, found.only_artifact_right) == (6, 2, 1)
    assert (found.reference_accuracy, found.artifact_accuracy) == (5 / 6, 4 / 6)
    assert found.difference == pytest.approx(-1 / 6)
    assert found.interval.low < found.difference < found.interval.high
    assert found.p_value == 1.0
    assert [(entry.label, entry.support, entry.reference_right, entry.artifact_right) for entry in found.classes] == [
        ("a", 2, 2, 1),
        ("b", 2, 2, 1),
        ("c", 2, 1, 2),
    ]
    confidence = float(softmax(reference).max())
    assert found.reference_calibration_error == pytest.approx(abs(5 / 6 - confidence), abs=1e-6)
    assert found.artifact_calibration_error == pytest.approx(abs(4 / 6 - confidence), abs=1e-6)


def test_the_interval_of_different_images_of_a_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10, example (a): 56/70 and 48/80.
    found = separate_interval(56 / 70, wilson_interval(56, 70), 48 / 80, wilson_interval(48, 80))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    assert separate_interval(0.5, wilson_interval(5, 10, 0.99), 0.5, wilson_interval(5, 10, 0.99)).level == 0.99


def test_the_images_of_a_record_are_read_from_the_highest_bit() -> None:
    assert right_images("a180", 10).tolist() == [True, False, True, False, False, False, False, True, True, False]
    assert right_images("ff", 8).all()
    for bits, images in (("ff", 9), ("ffff", 8), ("f", 4), ("xy", 8)):
        with pytest.raises(ValueError, match=r"one bit for each|hexadecimal"):
            right_images(bits, images)
