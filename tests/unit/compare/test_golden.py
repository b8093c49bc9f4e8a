from __future__ import annotations

import numpy as np
import pytest

from toolkit.compare.golden import judged_by_class, measured_limits, narrower, score_golden, usual_limits
from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import TOLERANCES
from toolkit.results import GoldenLimits

INT8 = TOLERANCES["int8"]


def outputs(logits: np.ndarray) -> dict[str, np.ndarray]:
    logits = np.asarray(logits, np.float32)
    return {"logits": logits, "probabilities": softmax(logits).astype(np.float32)}


SURE = np.eye(8, dtype=np.float32) * 6
EDGES = np.array([[3, -1, 0, 0, 0, 0, 0, 0], [0, 2, -2, 0, 0, 0, 0, 0]], np.float32)
EXPECTED = outputs(np.concatenate([SURE, EDGES]))


def test_what_is_judged_by_its_classes() -> None:
    assert [name for name, tolerance in TOLERANCES.items() if judged_by_class(tolerance)] == ["int8"]


def test_where_the_network_is_sure_no_class_may_differ() -> None:
    limits = usual_limits(EXPECTED, 8, INT8)
    assert limits == GoldenLimits(different_classes=0, mean_divergence=0.1)


def test_where_it_hesitates_a_class_may_differ_as_far_as_chance_explains_it() -> None:
    unsure = SURE.copy()
    unsure[0] = [1.0, 0.9, 0, 0, 0, 0, 0, 0]
    assert usual_limits(outputs(unsure), 8, INT8).different_classes == 1
    assert usual_limits(outputs(SURE * 0.01), 8, INT8).different_classes == 2


def test_seven_of_eight_is_no_ninety_five_percent() -> None:
    wrong = EXPECTED["logits"].copy()
    wrong[3] = wrong[4]
    score = score_golden(EXPECTED, outputs(wrong), 8, usual_limits(EXPECTED, 8, INT8))
    assert score.different_classes == 1
    assert score.failures[0] == "the most probable class differs on 1 of 8 golden images, allowed 0"
    assert "diverge by" in score.failures[1]


def test_limits_from_a_measurement_leave_room_and_are_no_wider_than_usual() -> None:
    quantised = outputs(EXPECTED["logits"] * 1.1)
    limits = measured_limits(EXPECTED, quantised, 8, INT8)
    own = score_golden(EXPECTED, quantised, 8, limits)
    assert own.failures == ()
    assert own.edge_error == pytest.approx(0.1, rel=1e-3)
    assert limits.edge_error == pytest.approx(0.2, abs=1e-3)
    assert limits.mean_divergence is not None
    assert 3 * own.mean_divergence < limits.mean_divergence < INT8.mean_divergence
    far = measured_limits(EXPECTED, outputs(EXPECTED["logits"][::-1]), 8, INT8)
    assert (far.different_classes, far.mean_divergence) == (0, INT8.mean_divergence)
    lost = outputs(np.full_like(EXPECTED["logits"], np.nan))
    assert measured_limits(EXPECTED, lost, 8, INT8) == GoldenLimits(
        different_classes=0, mean_divergence=INT8.mean_divergence
    )


def test_edge_inputs_show_what_images_do_not() -> None:
    limits = GoldenLimits(different_classes=0, mean_divergence=0.1, edge_error=0.2)
    exchanged = EXPECTED["logits"].copy()
    exchanged[8:] = exchanged[8:, [1, 0, 2, 3, 4, 5, 6, 7]]
    (failure,) = score_golden(EXPECTED, outputs(exchanged), 8, limits).failures
    assert failure.startswith("logits of the golden edge inputs differ by 1.1")
    assert failure.endswith("allowed 0.2")
    assert score_golden(EXPECTED, outputs(exchanged), 8).failures == ()
    only_images = {name: values[:8] for name, values in EXPECTED.items()}
    assert score_golden(only_images, only_images, 8, limits).edge_error is None


def test_a_bundle_may_tighten_and_never_widen() -> None:
    usual = GoldenLimits(different_classes=1, mean_divergence=0.1)
    wide = GoldenLimits(different_classes=8, mean_divergence=100.0, edge_error=0.3)
    tight = GoldenLimits(different_classes=0, mean_divergence=0.01)
    assert narrower(usual, wide) == usual.model_copy(update={"edge_error": 0.3})
    assert narrower(usual, tight) == tight
    assert narrower(usual, None) == usual
    assert narrower(usual, GoldenLimits(different_classes=1, mean_divergence=None)) == usual


def test_what_is_not_finite_differs() -> None:
    lost = EXPECTED["logits"].copy()
    lost[0] = np.nan
    score = score_golden(EXPECTED, outputs(lost), 8, usual_limits(EXPECTED, 8, INT8))
    assert score.different_classes == 1
    assert len(score.failures) == 2
