from __future__ import annotations

import numpy as np
import pytest

from toolkit.compare.label_issues import confident_joint, estimated_wrong, suspects

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
    assert estimated_wrong(found, len(LABELS)) == 2


def test_the_least_probable_label_is_the_most_suspect() -> None:
    assert suspects(PROBABILITIES, LABELS, 2).tolist() == [7, 2]
    assert suspects(PROBABILITIES, LABELS, 100).tolist() == [7, 2]
    assert suspects(PROBABILITIES, LABELS, 1).tolist() == [7]
    assert suspects(PROBABILITIES, LABELS, 0).tolist() == []


def test_of_equally_improbable_labels_the_surer_other_class_comes_first() -> None:
    rows = np.array([[0.1, 0.5, 0.4], [0.1, 0.9, 0.0], [0.1, 0.5, 0.4]])
    assert suspects(rows, np.array([0, 0, 0]), 3).tolist() == [1, 0, 2]


def test_a_class_that_no_label_names_takes_nothing() -> None:
    found = confident_joint(np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), np.array([0, 0, 1]))
    assert found.confident.tolist() == [-1, 0, 1]
    assert found.joint.sum() == pytest.approx(1.0)
    assert estimated_wrong(found, 3) == 0


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
