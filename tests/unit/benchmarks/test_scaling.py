"""Verdicts on memory and time."""

import pytest

from benchmarks import scaling


@pytest.mark.parametrize(
    ("seconds", "peaks", "expected"),
    [
        ([10, 20, 42], [10**9, 2 * 10**9, 15 * 10**8], [True, True]),
        ([10, 20, 42], [10**9, 2 * 10**9 + 1, 10**9], [False, True]),
        ([10, 20, 47], [10**9, 10**9, 10**9], [True, False]),
        ([10, 9, 8], [None, None, None], [False, False]),
    ],
)
def test_scaling_verdicts(seconds, peaks, expected):
    assert [claim.met for claim in scaling.claims([1000, 2000, 4000], seconds, peaks)] == expected
