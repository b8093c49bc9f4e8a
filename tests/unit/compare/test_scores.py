from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from toolkit.compare.metrics import softmax
from toolkit.compare.scores import Scores, allowed_disagreements, score
from toolkit.compare.tolerances import TOLERANCES, tolerance_for

LABELS = tuple("abcdefgh")
TARGETS = np.arange(400) % len(LABELS)


def outputs(said: np.ndarray, height: float = 6.0) -> dict[str, np.ndarray]:
    logits = np.eye(len(LABELS), dtype=np.float32)[said] * np.float32(height)
    return {"logits": logits, "probabilities": softmax(logits).astype(np.float32)}


def wrong_on(images: np.ndarray) -> np.ndarray:
    said = TARGETS.copy()
    said[images] = (said[images] + 1) % len(LABELS)
    return said


def judged(actual: dict[str, np.ndarray], precision: str = "int8", **overrides: float) -> Scores:
    return score(outputs(TARGETS), actual, TARGETS, LABELS, tolerance_for(precision, overrides))


def test_the_same_outputs_agree() -> None:
    found = judged(outputs(TARGETS))
    assert found.failures == ()
    assert (found.top1_agreement, found.top5_agreement, found.divergence.max, found.images) == (1.0, 1.0, 0.0, 400)
    assert found.accuracy is not None
    assert found.accuracy.difference == 0


@pytest.mark.parametrize(("images", "agreement"), [(8, 0.95), (100, 0.95), (512, 0.99), (10_000, 0.95)])
def test_disagreements_that_chance_brings_are_allowed(images: int, agreement: float) -> None:
    allowed = allowed_disagreements(images, agreement)
    assert stats.binom.sf(allowed, images, 1 - agreement) < 0.01 <= stats.binom.sf(allowed - 1, images, 1 - agreement)


def test_the_ends_of_an_agreement() -> None:
    assert allowed_disagreements(50, 1.0) == 0
    assert allowed_disagreements(50, 0.0) == 50


def test_too_many_flips_are_refused_where_agreement_is_judged() -> None:
    found = judged(outputs(wrong_on(np.arange(0, 400, 8))), mean_divergence=100)
    assert found.failures[0].startswith("the most probable class differs on 50 of 400 test images, allowed 31")
    assert judged(outputs(wrong_on(np.arange(0, 400, 8))), "float32").failures == ()


def test_a_loss_of_accuracy_counts_if_it_is_large_and_significant() -> None:
    limits = {"top1_agreement": 0.0, "mean_divergence": 100.0}
    few = judged(outputs(wrong_on(np.arange(5))), **limits)
    assert few.accuracy is not None
    assert few.accuracy.difference == pytest.approx(-5 / 400)
    assert few.failures == ()
    many = judged(outputs(wrong_on(np.arange(12))), **limits)
    assert len(many.failures) == 1
    assert many.failures[0].startswith("accuracy falls by 3.00% on 400 test images (95% interval of the difference -5")
    assert judged(outputs(wrong_on(np.arange(12))), accuracy_drop=0.05, **limits).failures == ()


def test_one_class_that_is_lost_is_named_although_the_others_carry_the_average() -> None:
    lost = np.flatnonzero(TARGETS == 2)
    found = judged(outputs(wrong_on(lost)), top1_agreement=0.0, mean_divergence=100.0, accuracy_drop=0.05)
    assert found.failures[-1] == "class c is recognised on 0 of 50 images instead of 50"


def test_other_probabilities_of_the_same_classes_are_a_divergence() -> None:
    found = judged(outputs(TARGETS, height=1.0))
    assert found.top1_agreement == 1.0
    (failure,) = found.failures
    assert failure.startswith("the probabilities diverge by ")
    few = score(
        {k: v[:8] for k, v in outputs(TARGETS).items()},
        {k: v[:8] for k, v in outputs(TARGETS, 1.0).items()},
        None,
        LABELS,
        TOLERANCES["int8"],
    )
    assert few.failures == ()
    assert few.accuracy is None


def test_outputs_that_are_not_finite_are_scored_without_an_exception() -> None:
    broken = outputs(TARGETS)
    broken["logits"][0] = np.nan
    broken["probabilities"][0] = np.nan
    found = judged(broken)
    assert found.top1_agreement == 399 / 400
    assert any("diverge by inf nats" in failure for failure in found.failures)
