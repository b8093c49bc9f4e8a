from __future__ import annotations

import pytest

from toolkit.durations import duration, parse_duration
from toolkit.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("45", 45), ("1h5m10s", 3910)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0m", "-5m", "m", "5x"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"is no length of time: give e\.g\. 90s, 20m"):
        parse_duration(text)


def test_a_length_of_time_for_a_person() -> None:
    assert [duration(seconds) for seconds in (5.4, 89, 95, 660, 7500)] == [
        "5 s",
        "89 s",
        "2 min",
        "11 min",
        "2 h 5 min",
    ]
