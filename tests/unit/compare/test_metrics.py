from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from toolkit.compare.metrics import (
    calibration_bins,
    confusion_matrix,
    evaluate,
    expected_calibration_error,
    loss_and_accuracy,
    softmax,
    top_k_accuracy,
    wilson_interval,
)
from toolkit.errors import TrainingError
from toolkit.results import Evaluation

LABELS = tuple(f"class {index}" for index in range(8))


def example(images: int = 400, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    targets = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), targets] += 1.0
    return logits, targets


def test_evaluation_agrees_with_scikit_learn() -> None:
    logits, targets = example()
    found = evaluate(logits, targets, LABELS, "test")
    predictions = logits.argmax(axis=1)
    assert (found.split, found.images) == ("test", 400)
    assert found.top1 == sk.accuracy_score(targets, predictions)
    assert found.top5 == pytest.approx(sk.top_k_accuracy_score(targets, logits, k=5))
    assert found.loss == pytest.approx(sk.log_loss(targets, softmax(logits)))
    assert np.array_equal(found.confusion, sk.confusion_matrix(targets, predictions))
    precision, recall, _, support = sk.precision_recall_fscore_support(targets, predictions)
    assert [score.label for score in found.classes] == list(LABELS)
    assert [score.precision for score in found.classes] == pytest.approx(precision)
    assert [score.recall for score in found.classes] == pytest.approx(recall)
    assert [score.support for score in found.classes] == support.tolist()
    assert Evaluation.from_json(found.to_json()) == found


def test_what_does_not_exist_is_none() -> None:
    logits = np.array([[2, 1, 0], [0, 3, 0], [2, 1, 0]], np.float32)
    found = evaluate(logits, np.array([0, 1, 1]), ("a", "b", "c"), "test")
    assert found.top5 is None
    assert (found.classes[2].support, found.classes[2].precision, found.classes[2].recall) == (0, None, None)
    assert (found.classes[0].precision, found.classes[0].recall) == (0.5, 1.0)
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 0))


@pytest.mark.parametrize(("classes", "has_top5"), [(5, False), (6, True)])
def test_top5_needs_six_classes(classes: int, has_top5: bool) -> None:
    logits, targets = example(30, classes)
    assert (evaluate(logits, targets, LABELS[:classes], "test").top5 is not None) is has_top5


def test_equal_logits_do_not_make_everything_right() -> None:
    assert top_k_accuracy(np.zeros((8, 8), np.float32), np.arange(8), 5) == 5 / 8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_logits_are_not_scored(bad: float) -> None:
    logits, targets = example(10)
    logits[3, 2] = bad
    with pytest.raises(TrainingError, match="1 of 10 images"):
        evaluate(logits, targets, LABELS, "test")


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (np.zeros((0, 8)), np.zeros(0, np.int64)),
        (np.zeros((2, 7)), np.zeros(2, np.int64)),
        (np.zeros((2, 8)), np.zeros(3, np.int64)),
        (np.zeros((2, 8)), np.array([0, 8])),
        (np.zeros((2, 8)), np.array([-1, 0])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(logits: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match="targets"):
        evaluate(logits, targets, LABELS, "test")


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (8, 10), (10, 10), (9812, 10000), (1, 3)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_interval_agrees_with_scipy(successes: int, n: int, level: float) -> None:
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    found = wilson_interval(successes, n, level)
    assert (found.low, found.high, found.level) == (
        pytest.approx(expected.low, abs=1e-12),
        pytest.approx(expected.high, abs=1e-12),
        level,
    )
    assert 0 <= found.low <= successes / n <= found.high <= 1


def test_wilson_interval_of_nothing_and_of_nonsense() -> None:
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 of 10"):
        wilson_interval(11, 10)
    with pytest.raises(ValueError, match="level 1"):
        wilson_interval(1, 10, 1.0)


def test_calibration_error_of_hand_made_probabilities() -> None:
    # Two bins of (0, 0.5] and (0.5, 1]: in the first 0.5 confident and right, in the second 0.9 and 0.7 confident, one
    # of two right.
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    found = expected_calibration_error(probabilities, np.array([0, 0, 0]), bins=2)
    assert found == pytest.approx(1 / 3 * 0.5 + 2 / 3 * abs(0.5 - 0.8))
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == 1.0


def test_calibration_bins_are_what_the_error_is_made_of() -> None:
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    low, high = calibration_bins(probabilities, np.array([0, 0, 0]), bins=2)
    assert (low.low, low.high, low.images, low.confidence, low.accuracy) == (0.0, 0.5, 1, 0.5, 1.0)
    assert (high.images, high.confidence, high.accuracy) == (2, pytest.approx(0.8), 0.5)
    (only,) = calibration_bins(np.array([[1.0, 0.0]]), np.array([1]))
    assert (only.low, only.high, only.images, only.accuracy) == (pytest.approx(14 / 15), 1.0, 1, 0.0)


def test_softmax_of_large_logits_is_finite_and_sums_to_one() -> None:
    found = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32))
    assert found.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_confusion_matrix_rows_are_true_classes() -> None:
    assert confusion_matrix(np.array([1, 1]), np.array([0, 1]), 2).tolist() == [[0, 1], [0, 1]]


def test_loss_is_the_mean_negative_log_likelihood_and_survives_large_logits() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 0.0]], np.float32)
    loss, accuracy = loss_and_accuracy(logits, np.array([0, 1]))
    assert loss == pytest.approx(np.log(2) / 2)
    assert accuracy == 0.5


@pytest.mark.parametrize("diverged", [np.inf, -np.inf, np.nan])
def test_what_has_diverged_has_no_loss_and_numpy_says_nothing(diverged: float) -> None:
    loss, _ = loss_and_accuracy(np.array([[1.0, 2.0], [diverged, diverged]], np.float32), np.array([0, 1]))
    assert np.isnan(loss)


def test_loss_and_accuracy_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 5, (50, 7)).astype(np.float32)
    targets = generator.integers(0, 7, 50)
    loss, accuracy = loss_and_accuracy(logits, targets)
    assert loss == pytest.approx(sk.log_loss(targets, softmax(logits), labels=list(range(7))), rel=1e-5)
    assert accuracy == sk.accuracy_score(targets, logits.argmax(1))
