"""Time as a line over the number of images."""

import pytest

from benchmarks.harness.growth import fit_line, linear, slopes


def test_slopes_are_between_neighbours():
    assert slopes([1000, 2000, 4000], [10.0, 13.0, 23.0]) == pytest.approx([3.0, 5.0])


def test_line_goes_through_points_on_a_line():
    line = fit_line([1000, 5000, 20_000], [12.0, 20.0, 50.0])
    assert (line.fixed, line.per_1000, line.deviation) == pytest.approx((10.0, 2.0, 0.0))
    assert str(line) == "10.0 s + 2.00 s per 1,000 images"


def test_line_tells_how_far_the_farthest_point_is():
    line = fit_line([1000, 2000, 3000], [1.0, 4.0, 1.0])
    assert (line.fixed, line.per_1000, line.deviation) == pytest.approx((2.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("seconds", "measured", "met"),
    [
        ([10.0, 13.0, 19.0], "3.00, 3.00; largest to smallest 1.00", True),
        ([10.0, 13.0, 21.0], "3.00, 4.00; largest to smallest 1.33", False),
        ([10.0, 10.0, 9.0], "0.00, -0.50; time does not rise everywhere", False),
    ],
)
def test_the_verdict_on_time(seconds, measured, met):
    claim = linear([1000, 2000, 4000], seconds)
    assert (claim.measured, claim.met) == (measured, met)
