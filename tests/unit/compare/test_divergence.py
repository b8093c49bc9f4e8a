from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.divergence import divergence_statistics, kl_divergence


def test_the_divergence_of_two_coins() -> None:
    fair, biased = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    assert kl_divergence(fair, biased)[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kl_divergence(biased, fair)[0] == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert kl_divergence(fair, fair)[0] == 0


def test_a_zero_is_costly_and_not_infinite() -> None:
    found = kl_divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0]
    assert 20 < found < 30


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_diverges_infinitely(bad: float) -> None:
    good = np.full((2, 2), 0.5, np.float32)
    broken = good.copy()
    broken[1, 0] = bad
    assert kl_divergence(good, broken).tolist() == [0.0, math.inf]
    assert math.isinf(divergence_statistics(good, broken).mean)


def test_statistics_are_over_images() -> None:
    reference = np.full((100, 2), 0.5)
    actual = reference.copy()
    actual[7] = (0.25, 0.75)
    one = float(kl_divergence(reference[:1], actual[7:8])[0])
    found = divergence_statistics(reference, actual)
    assert found.mean == pytest.approx(one / 100)
    assert found.max == pytest.approx(one)
    assert found.p99 == 0
