"""Numbers as text."""

import pytest

from toolkit.report import figures
from toolkit.results import Estimate, Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1234"),
        (138.4, "138"),
        (99.96, "100"),
        (13.84, "13.8"),
        (9.996, "10.0"),
        (1.384, "1.38"),
        (0.1384, "0.138"),
        (0, "0.000"),
        (float("nan"), "nan"),
    ],
)
def test_three_significant_digits(value, text):
    assert figures.number(value) == text


def test_an_interval_has_the_decimals_of_its_median():
    assert (
        figures.estimate(Estimate(median=99.0, interval=Interval(low=95.04, high=101.26), rounds=7))
        == "99.0 [95.0, 101.3]"
    )


def test_units():
    assert figures.milliseconds(0.0456) == "45.6"
    assert figures.megabytes(13_456_789) == "13.5"
    assert figures.percent(0.98056) == "98.1%"
    assert figures.percent_interval(0.98056, Interval(low=0.961, high=0.9912)) == "98.1% [96.1, 99.1]"
    assert figures.ratio(1.3125) == "1.31x"
    assert (figures.scientific(1.234e-6), figures.scientific(0.0)) == ("1.2e-06", "0")


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0%"), (0.9996, ">99.9%"), (0.9994, "99.9%"), (0.0, "0.0%"), (0.0004, "<0.1%"), (0.0006, "0.1%")],
)
def test_all_and_nothing_are_said_of_all_and_nothing_alone(share, text):
    assert figures.percent(share) == text


def test_a_figure_that_does_not_exist_is_a_dash():
    assert {
        figures.milliseconds(None),
        figures.megabytes(None),
        figures.percent(None),
        figures.percent_interval(None, None),
        figures.ratio(None),
    } == {"-"}
