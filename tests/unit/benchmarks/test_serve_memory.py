"""What counts as growth, and that no answer passes that is another than it must be."""

from __future__ import annotations

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.serve_memory import Sample, claims, growth, require_expected, table
from benchmarks.servers.client import LOST, OK, Answer

MB = 10**6


def samples(*megabytes: float) -> list[Sample]:
    """One a second."""
    return [Sample(float(at), int(value * MB), 100 * at) for at, value in enumerate(megabytes)]


def test_what_is_taken_at_the_start_is_no_growth() -> None:
    assert growth(samples(100, 150, 200, 200, 201, 200, 200, 200, 200, 200, 200)) == 0


@pytest.mark.parametrize(("last", "met"), [(220, True), (221, False)])
def test_growth_is_the_end_against_what_follows_the_start(last: float, met: bool) -> None:
    found = samples(100, 150, 200, 200, 200, 205, 210, 215, last, last, last)
    (claim,) = claims(found)
    assert claim.met == met
    assert claim.measured == f"{last - 200:+.1f} MB over 1,000 requests in 10 s"


def test_one_high_sample_is_no_growth() -> None:
    assert growth(samples(100, 150, 200, 200, 200, 200, 200, 200, 200, 900, 200)) == 0


def test_the_table_has_a_row_for_each_tenth() -> None:
    rows = table(samples(*range(100, 141))).rows
    assert [row[0] for row in rows] == [str(second) for second in range(0, 41, 4)]
    assert rows[-1] == ("40", "4,000", "140")


def test_an_answer_that_must_be_another_is_named() -> None:
    def answer(request: int, status: int) -> Answer:
        return Answer(request, status, 0.0, 0.1, b"")

    require_expected([answer(0, OK), answer(1, 422)], [OK, 422])
    with pytest.raises(BenchmarkError, match=r"of 3 requests .*: 0 instead of 200 1 times, 200 instead of 422 2 times"):
        require_expected([answer(0, LOST), answer(1, OK), answer(1, OK)], [OK, 422])
