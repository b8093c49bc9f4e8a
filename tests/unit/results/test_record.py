from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from toolkit.errors import RunError
from toolkit.results import Check, ErrorStatistics, Interval


def test_a_record_round_trips_through_a_file(tmp_path: Path) -> None:
    interval = Interval(low=0.25, high=0.75)
    interval.save(tmp_path / "interval.json")
    assert Interval.load(tmp_path / "interval.json", "toolkit bench") == interval


def test_a_diverged_result_can_be_written_and_read() -> None:
    statistics = ErrorStatistics(
        elements=1,
        max_absolute=math.inf,
        mean_absolute=math.nan,
        p99_absolute=math.inf,
        max_relative=math.inf,
        min_cosine=-1.0,
    )
    again = ErrorStatistics.from_json(statistics.to_json())
    assert again.max_absolute == math.inf
    assert math.isnan(again.mean_absolute)


def test_a_record_cannot_be_changed() -> None:
    interval = Interval(low=0.0, high=1.0)
    with pytest.raises(ValidationError):
        interval.low = 0.5  # type: ignore[misc]  # the point of the test


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run 'toolkit bench' first"):
        Interval.load(tmp_path / "bench.json", "toolkit bench")


def test_a_malformed_file_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"low": 0.1}')
    with pytest.raises(RunError, match=r"high: Field required.*run 'toolkit bench' again"):
        Interval.load(tmp_path / "bench.json", "toolkit bench")


@pytest.mark.skipif(os.name == "nt", reason="Windows file names are Unicode")
def test_a_name_that_is_not_utf8_stands_in_it_escaped() -> None:
    name = os.fsdecode(b"caf\xe9/two\nlines")
    check = Check(name="opens", passed=False, failures=(name, "猫"), detail=name, seconds=0.5)
    again = Check.from_json(check.to_json().encode())
    assert again.failures == ("caf\\xe9/two\nlines", "猫")
    assert (again.detail, again.seconds) == ("caf\\xe9/two\nlines", 0.5)
