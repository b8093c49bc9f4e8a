from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.errors import ErrorAccumulator, error_statistics
from toolkit.results import ErrorStatistics

REFERENCE = np.array([[1.0, -4.0], [3.0, 4.0], [0.0, 2.0]], np.float32)
ACTUAL = np.array([[1.0, -3.0], [3.0, 4.0], [0.5, 2.0]], np.float32)


def test_statistics_of_hand_made_arrays() -> None:
    found = error_statistics(REFERENCE, ACTUAL)
    assert found.elements == 6
    assert found.max_absolute == 1.0
    assert found.mean_absolute == 1.5 / 6
    # Sorted errors 0 0 0 0 0.5 1; the 99th percentile is 95% of the way from the fifth to the sixth.
    assert found.p99_absolute == pytest.approx(0.975)
    assert found.max_relative == 0.25
    assert found.min_cosine == pytest.approx(4 / (math.hypot(0.5, 2) * 2))


def test_equal_arrays_have_no_error() -> None:
    found = error_statistics(REFERENCE, REFERENCE)
    assert (found.max_absolute, found.mean_absolute, found.p99_absolute, found.max_relative) == (0, 0, 0, 0)
    assert found.min_cosine == pytest.approx(1.0)


def test_batches_give_what_the_whole_gives() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(50, 7)).astype(np.float32)
    actual = reference + random.normal(scale=0.01, size=(50, 7)).astype(np.float32)
    accumulator = ErrorAccumulator()
    for start in (0, 1, 4, 36):
        end = {0: 1, 1: 4, 4: 36, 36: 50}[start]
        accumulator.add(reference[start:end], actual[start:end])
    parts, whole = accumulator.statistics(), error_statistics(reference, actual)
    assert parts.p99_absolute == whole.p99_absolute
    assert parts.mean_absolute == pytest.approx(whole.mean_absolute)
    assert (parts.max_absolute, parts.max_relative, parts.min_cosine) == (
        whole.max_absolute,
        whole.max_relative,
        whole.min_cosine,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["reference", "actual", "both"])
def test_one_value_that_is_not_finite_spoils_everything(bad: float, side: str) -> None:
    arrays = {"reference": REFERENCE.copy(), "actual": ACTUAL.copy()}
    for name in arrays if side == "both" else (side,):
        arrays[name][1, 0] = bad
    accumulator = ErrorAccumulator()
    accumulator.add(arrays["reference"], arrays["actual"])
    accumulator.add(REFERENCE, REFERENCE)
    found = accumulator.statistics()
    assert found.elements == 12
    assert math.isinf(found.max_absolute)
    assert math.isinf(found.mean_absolute)
    assert math.isinf(found.p99_absolute)
    assert math.isinf(found.max_relative)
    assert math.isnan(found.min_cosine)
    again = ErrorStatistics.from_json(found.to_json())
    assert math.isinf(again.max_absolute)
    assert math.isnan(again.min_cosine)


def test_rows_of_zeros_and_values_at_the_end_of_float32() -> None:
    zeros = np.zeros((1, 2), np.float32)
    assert error_statistics(zeros, zeros).max_relative == 0
    assert error_statistics(zeros, zeros).min_cosine == 1
    assert math.isinf(error_statistics(zeros, zeros + 1).max_relative)
    assert error_statistics(zeros, zeros + 1).min_cosine == 0
    largest = np.full((1, 2), np.finfo(np.float32).max, np.float32)
    far = error_statistics(largest, -largest)
    assert far.max_absolute == 2 * float(largest[0, 0])
    assert far.min_cosine == pytest.approx(-1)


def test_nothing_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no outputs"):
        error_statistics(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[3, 2\]"):
        error_statistics(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="one shape"):
        error_statistics(np.zeros(3), np.zeros(3))
