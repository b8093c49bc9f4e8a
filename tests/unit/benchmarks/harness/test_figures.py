"""Ranges and intervals of measured numbers, and how they are written."""

import math

import pytest

from benchmarks.harness.figures import accuracy_interval, difference_interval, megabytes, spread
from toolkit.compare.metrics import wilson_interval


def test_spread():
    assert str(spread([3.0, 1.0, 2.0])) == "2.0 (1.0 to 3.0)"
    assert str(spread([3.0])) == "3.0"


def test_accuracy_interval_is_that_of_wilson():
    assert accuracy_interval(0.9, 50) == wilson_interval(45, 50)


def test_difference_interval_is_that_of_newcombe():
    interval = difference_interval(0.8, 0.6, 100)
    first, second = wilson_interval(80, 100), wilson_interval(60, 100)
    assert interval.low == pytest.approx(0.2 - math.sqrt((0.8 - first.low) ** 2 + (second.high - 0.6) ** 2))
    assert interval.high == pytest.approx(0.2 + math.sqrt((first.high - 0.8) ** 2 + (0.6 - second.low) ** 2))
    assert 0 < interval.low < 0.2 < interval.high


def test_megabytes():
    assert megabytes(2_000_000_000) == "2,000"
    assert megabytes(1_000_000, None, 3_000_000) == "2 (1 to 3)"
    assert megabytes(None) == megabytes() == "not measured"
