from __future__ import annotations

import numpy as np
import pytest

from toolkit.compare.leak import leak_sentence, measure_leak
from toolkit.compare.metrics import wilson_interval

TARGETS = np.array([0, 0, 1, 1, 1])
LOGITS = np.eye(2)[[0, 1, 1, 1, 0]]
"""Right on the first, third and fourth."""


def test_the_others_are_scored_alone() -> None:
    leak = measure_leak(LOGITS, TARGETS, np.array([True, False, True, False, False]), ("train",), 0)
    assert leak is not None
    assert (leak.images, leak.seen_in, leak.near) == (2, ("train",), 0)
    assert leak.top1_without == pytest.approx(1 / 3)
    assert leak.top1_without_interval == wilson_interval(1, 3)
    assert leak_sentence(leak, 5, "test") == (
        "2 of 5 test images are also in train; without them 33.3% (95% interval 6.1% to 79.2%)"
    )


def test_nothing_leaked() -> None:
    assert measure_leak(LOGITS, TARGETS, np.zeros(5, np.bool_), (), 0) is None


def test_everything_leaked() -> None:
    leak = measure_leak(LOGITS, TARGETS, np.ones(5, np.bool_), ("train", "validation"), 3)
    assert leak is not None
    assert leak.top1_without is None
    assert leak_sentence(leak, 5, "test") == (
        "5 of 5 test images are also in train and validation (3 of them re-encoded, resized or cropped): the accuracy "
        "says nothing about new images"
    )


def test_one_image() -> None:
    leak = measure_leak(LOGITS, TARGETS, np.arange(5) == 1, ("train",), 0)
    assert leak is not None
    assert leak_sentence(leak, 5, "test").startswith("1 of 5 test images is also in train; without them 75.0%")
