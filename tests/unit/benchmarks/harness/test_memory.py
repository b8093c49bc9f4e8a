"""Peak memory of a child: which of three figures counts."""

import pytest

from benchmarks.harness.memory import peak_of


@pytest.mark.parametrize(
    ("reported", "sampled", "floor", "expected"),
    [
        (900, 850, 100, 900),
        (102, 30, 100, 30),
        (102, None, 100, None),
        (900, None, None, 900),
        (None, 850, 100, 850),
        (None, None, None, None),
    ],
)
def test_peak_is_the_exact_one_unless_it_may_be_inherited(reported, sampled, floor, expected):
    assert peak_of(reported, sampled, floor) == expected
