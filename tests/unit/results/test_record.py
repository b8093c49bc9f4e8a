from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from toolkit.errors import RunError
from toolkit.results import Check, ErrorStatistics, Flip, Interval, Record


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


def flip(name: str) -> Flip:
    return Flip(input=name, batch_size=1, reference_label="a", artifact_label="b", reference_margin=0.0, counted=True)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J.png", "\\x1b[2J.png"),
        ("a\x00\r\x08\x9b", "a\\x00\\r\\x08\\x9b"),
        ("gnp.\u202etac", "gnp.\\u202etac"),
        ('\\x1b \\\\ " \u732b \U0001f408 \u200f', '\\x1b \\\\ " \u732b \U0001f408 \u200f'),
    ],
)
def test_a_name_is_written_such_that_it_can_be_shown_and_read_again(tmp_path: Path, name: str, shown: str) -> None:
    flip(name).save(tmp_path / "flip.json")
    again = Flip.load(tmp_path / "flip.json", "toolkit verify")
    assert again == flip(shown)
    assert Flip.from_json(again.to_json()) == again


@pytest.mark.parametrize("written", ["\\u001b", "\\u009B", "\\r", "\u202e", "\x7f", "\\u202E"])
def test_a_record_that_speaks_to_the_terminal_is_not_read(tmp_path: Path, written: str) -> None:
    path = tmp_path / "flip.json"
    path.write_text(flip("NAME").to_json().replace("NAME", written), encoding="utf-8", newline="")
    with pytest.raises(
        RunError, match=r"is not what 'toolkit verify' writes \(it holds the character U\+[0-9A-F]{4}, "
    ):
        Flip.load(path, "toolkit verify")


class Numbers(Record):
    rows: tuple[tuple[int, ...], ...]
    mixed: tuple[int | str, ...]
    text: str


def test_rows_of_numbers_stand_on_one_line() -> None:
    numbers = Numbers(rows=((1, -2), (), (30,)), mixed=(1, "N"), text="[\n 1,\n 2\n]")
    assert "[1,-2]" in numbers.to_json()
    assert "[30]" in numbers.to_json()
    assert Numbers.from_json(numbers.to_json()) == numbers
