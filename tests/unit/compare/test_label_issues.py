from __future__ import annotations

import numpy as np
import pytest

from toolkit.compare.label_issues import confident_joint, off_diagonal, surprise, suspects

PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],  # 0, confidently so
        [0.7, 0.2, 0.1],  # 0
        [0.1, 0.9, 0.0],  # labelled 0, confidently 1
        [0.2, 0.8, 0.0],  # 1, less sure than its class usually is: confidently nothing
        [0.1, 0.9, 0.0],  # 1
        [0.0, 0.0, 1.0],  # 2
        [0.0, 0.4, 0.6],  # 2
        [0.08, 0.87, 0.05],  # labelled 2, confidently 1
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def test_the_joint_is_that_of_the_paper_by_hand() -> None:
    found = confident_joint(PROBABILITIES, LABELS)
    assert found.thresholds.tolist() == pytest.approx([(0.9 + 0.7 + 0.1) / 3, 0.85, (1 + 0.6 + 0.05) / 3])
    # 0.7 passes the threshold of 0 (0.567), 0.6 that of 2 (0.55), 0.8 not that of 1 (0.85).
    assert found.confident.tolist() == [0, 0, 1, -1, 1, 2, 2, 1]
    assert found.counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 1, 2]]
    assert found.joint.tolist() == [
        pytest.approx([2 / 8, 1 / 8, 0]),
        pytest.approx([0, 2 / 8, 0]),
        pytest.approx([0, 1 / 8, 2 / 8]),
    ]
    assert off_diagonal(found, len(LABELS)) == 2


def test_the_least_probable_label_is_the_most_suspect() -> None:
    assert suspects(PROBABILITIES, LABELS, 2).tolist() == [7, 2]
    assert suspects(PROBABILITIES, LABELS, 100).tolist() == [7, 2]
    assert suspects(PROBABILITIES, LABELS, 1).tolist() == [7]
    assert suspects(PROBABILITIES, LABELS, 0).tolist() == []


def test_of_equally_improbable_labels_the_surer_other_class_comes_first() -> None:
    rows = np.array([[0.1, 0.5, 0.4], [0.1, 0.9, 0.0], [0.1, 0.5, 0.4]])
    assert suspects(rows, np.array([0, 0, 0]), 3).tolist() == [1, 0, 2]


def drawn(images: int, wrong: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of four classes with labels drawn with their very probabilities; the first ones have wrong labels."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.15), images)
    labels = (rng.random((images, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    labels[:wrong] = probabilities[:wrong].argmin(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_are_as_improbable_as_announced_are_not_counted(seed: int) -> None:
    probabilities, labels = drawn(5000, 0, seed)
    found = confident_joint(probabilities, labels)
    assert off_diagonal(found, 5000) > 100
    assert surprise(probabilities, labels).wrong <= 2


@pytest.mark.parametrize("wrong", [20, 200])
def test_labels_beyond_that_are_counted_nearly_all_and_not_more(wrong: int) -> None:
    probabilities, labels = drawn(5000, wrong)
    found = surprise(probabilities, labels)
    assert 0.7 * wrong <= found.wrong <= wrong
    assert found.listed >= found.wrong
    worst = suspects(probabilities, labels, found.listed)
    assert (worst < wrong).mean() >= 0.35  # half, by the expectation


def test_the_expectation_is_summed_over_all_probabilities_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = np.array([[0.1, 0.9], [0.1, 0.9], [0.95, 0.05], [0.3, 0.7]])
    # Labels with 0.1 and 0.3 are improbable; up to 0.1 all probabilities sum to 0.25, up to 0.3 to 0.55.
    labels = np.array([0, 1, 0, 0])
    for rows in (10_000, 3, 1):
        monkeypatch.setattr("toolkit.compare.label_issues.ROWS", rows)
        found = surprise(probabilities, labels)
        assert (found.wrong, found.listed) == (round(1 - 0.25 - 2 * 0.25**0.5), 2)


def test_equal_probabilities_are_counted_together() -> None:
    assert surprise(np.full((6, 3), 1 / 3), np.zeros(6, np.int64)).wrong == 0


def test_a_class_that_no_label_names_takes_nothing() -> None:
    found = confident_joint(np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), np.array([0, 0, 1]))
    assert found.confident.tolist() == [-1, 0, 1]
    assert found.joint.sum() == pytest.approx(1.0)
    assert off_diagonal(found, 3) == 0


def test_a_class_with_nothing_confident_is_taken_as_it_is_labelled() -> None:
    found = confident_joint(np.array([[0.5, 0.5], [0.45, 0.55], [0.1, 0.9]]), np.array([0, 0, 1]))
    assert found.joint.sum() == pytest.approx(1.0)
    found = confident_joint(np.array([[0.2, 0.8], [0.2, 0.8], [0.05, 0.95]]), np.array([0, 0, 1]))
    assert found.counts.tolist() == [[2, 0], [0, 1]]


@pytest.mark.parametrize(
    ("shape", "labels"), [((2,), [0, 1]), ((2, 2), [0]), ((0, 2), []), ((2, 2), [0, 2]), ((2, 2), [-1, 0])]
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"do not fit|labels go from"):
        confident_joint(np.full(shape, 0.5), np.array(labels, np.int64))
