from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from toolkit.compare.metrics import softmax
from toolkit.compare.tolerances import TOLERANCES
from toolkit.compare.verdict import Comparison, Verdict

LABELS = ("cat", "dog", "eel")
NAMES = ["test/0", "test/1", "edge/zeros"]
LOGITS = np.array([[4, 0, 0], [0, 2, 1], [0, 0.5, 0.25]], np.float32)
PROBABILITIES = softmax(LOGITS).astype(np.float32)
REFERENCE = {"logits": LOGITS, "probabilities": PROBABILITIES}


def judged(actual: object, reference: dict[str, Any] = REFERENCE) -> Verdict:
    comparison = Comparison(LABELS, TOLERANCES["float32"])
    comparison.add(NAMES, reference, actual)
    return comparison.verdict()


def changed(output: str, row: int, column: int, value: float) -> dict[str, Any]:
    copy = {name: array.copy() for name, array in REFERENCE.items()}
    copy[output][row, column] = value
    if output == "logits" and math.isfinite(value):
        copy["probabilities"] = softmax(copy["logits"]).astype(np.float32)
    return copy


def test_the_same_outputs_pass() -> None:
    verdict = judged({name: array.copy() for name, array in REFERENCE.items()})
    assert verdict.passed
    assert verdict.failures == ()
    assert [output.output for output in verdict.outputs] == ["logits", "probabilities"]
    assert verdict.flips == ()


@pytest.mark.parametrize(("difference", "passes"), [(0.00405, True), (0.00415, False)])
def test_the_limit_is_absolute_plus_relative_to_the_row(difference: float, passes: bool) -> None:
    # The largest logit of row 0 is 4: 1e-4 + 4 * 1e-3 is allowed.
    assert judged(changed("logits", 0, 1, difference)).passed is passes
    assert softmax(changed("logits", 0, 1, 0.00415)["logits"])[0] == pytest.approx(PROBABILITIES[0], abs=1e-3)


def test_the_worst_row_is_named_with_what_was_allowed() -> None:
    actual = changed("logits", 0, 1, 0.31)
    actual["logits"][1, 0] = 0.01
    assert judged(actual).failures[0] == "logits differ by 0.31 on test/0 (batch size 3), allowed 0.0041, and on 1 more"


def test_probabilities_have_their_own_limit() -> None:
    verdict = judged(changed("probabilities", 2, 0, float(PROBABILITIES[2, 0]) + 0.002))
    assert verdict.failures == (
        "probabilities differ by 0.002 on edge/zeros (batch size 3), allowed 0.001",
        "probabilities are not the softmax of the logits on edge/zeros (batch size 3)",
    )


def test_a_softmax_over_the_batch_fails_also_where_single_errors_are_not_judged() -> None:
    comparison = Comparison(LABELS, TOLERANCES["int8"])
    comparison.add(NAMES, REFERENCE, {"logits": LOGITS, "probabilities": softmax(LOGITS.T).T.astype(np.float32)})
    (failure,) = comparison.verdict().failures
    assert failure == "probabilities are not the softmax of the logits on test/0 (batch size 3), and on 2 more"


def test_int8_outputs_may_be_far_away_and_their_flips_are_listed_with_both_margins() -> None:
    comparison = Comparison(LABELS, TOLERANCES["int8"])
    actual = {**REFERENCE, "logits": LOGITS + np.array([[0, 0, 0], [0, 0, 1.5], [0, 0, 0]], np.float32)}
    actual["probabilities"] = softmax(actual["logits"]).astype(np.float32)
    comparison.add(NAMES, REFERENCE, actual, ("cat", "eel", None))
    verdict = comparison.verdict()
    assert verdict.passed
    (flip,) = verdict.flips
    assert (flip.reference_label, flip.artifact_label, flip.true_label, flip.counted) == ("dog", "eel", "eel", False)
    assert (flip.reference_margin, flip.artifact_margin) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (math.nan, "probabilities hold NaN on test/1 (batch size 3)"),
        (math.inf, "probabilities hold an infinity on test/1 (batch size 3)"),
        (-math.inf, "probabilities hold an infinity on test/1 (batch size 3)"),
    ],
)
def test_values_that_are_not_finite_fail(value: float, sentence: str) -> None:
    verdict = judged(changed("probabilities", 1, 1, value))
    assert verdict.failures == (sentence,)
    assert math.isinf(verdict.outputs[1].statistics.max_absolute)


def test_nan_logits_fail_even_where_the_reference_is_nan_too() -> None:
    both = changed("logits", 0, 0, math.nan)
    failures = judged(both, reference=both).failures
    assert "the reference itself gives logits that are not finite on test/0 (batch size 3)" in failures
    assert "logits hold NaN on test/0 (batch size 3)" in failures


def test_outputs_of_nothing_but_nan_fail() -> None:
    verdict = judged({name: np.full_like(array, math.nan) for name, array in REFERENCE.items()})
    assert "probabilities hold NaN on test/0 (batch size 3), and on 2 more" in verdict.failures


def test_infinite_logits_fail_where_the_reference_is_infinite_too() -> None:
    both = changed("logits", 0, 0, math.inf)
    assert not judged(both, reference=both).passed


def test_a_missing_output_fails() -> None:
    verdict = judged({"logits": LOGITS})
    assert verdict.failures == ("the output probabilities is missing at batch size 3; it returns logits",)
    assert [output.output for output in verdict.outputs] == ["logits"]


def test_both_outputs_missing_fail_without_statistics() -> None:
    verdict = judged({})
    assert len(verdict.failures) == 2
    assert "it returns nothing" in verdict.failures[0]
    assert verdict.outputs == ()


def test_another_dtype_fails() -> None:
    assert judged({"logits": LOGITS.astype(np.float64), "probabilities": PROBABILITIES}).failures == (
        "logits are float64 instead of float32",
    )


def test_another_shape_fails() -> None:
    verdict = judged({"logits": LOGITS[:, :2], "probabilities": PROBABILITIES[0]})
    assert verdict.failures == (
        "logits have the shape [3, 2] instead of [3, 3] at batch size 3",
        "probabilities have the shape [3] instead of [3, 3] at batch size 3",
    )


@pytest.mark.parametrize(("actual", "sentence"), [(None, "it returns a NoneType"), ([LOGITS], "it returns a list")])
def test_anything_but_named_outputs_fails(actual: object, sentence: str) -> None:
    (failure,) = judged(actual).failures
    assert failure.startswith(sentence)


def test_a_list_in_place_of_an_array_fails() -> None:
    assert judged({"logits": LOGITS.tolist(), "probabilities": PROBABILITIES}).failures == (
        "logits are a list instead of an array",
    )


def test_nothing_compared_is_not_a_pass() -> None:
    verdict = Comparison(LABELS, TOLERANCES["float32"]).verdict()
    assert not verdict.passed
    assert verdict.failures == ("logits were not compared on any input", "probabilities were not compared on any input")


def test_swapped_classes_fail_as_flips_and_as_differences() -> None:
    swap = [1, 0, 2]
    verdict = judged({"logits": LOGITS[:, swap], "probabilities": PROBABILITIES[:, swap]})
    assert len(verdict.flips) == 3
    assert (
        verdict.failures[-1]
        == "the most probable class changes from cat to dog on test/0 (batch size 3) over a margin of 4, and on 2 more"
    )
    assert any(sentence.startswith("logits differ by 4 on test/0") for sentence in verdict.failures)


def test_a_flip_that_the_tolerance_explains_is_listed_and_passes() -> None:
    sides = []
    for first, second in ((4, 3.999), (3.999, 4)):
        logits = np.array([[first, second, 0], [0, 2, 1], [0, 0.5, 0.25]], np.float32)
        sides.append({"logits": logits, "probabilities": softmax(logits).astype(np.float32)})
    verdict = judged(sides[1], reference=sides[0])
    assert verdict.passed
    assert [flip.counted for flip in verdict.flips] == [False]
