"""Deep pixels: exact values of every rule, and when a person is told that a range is not used."""

from __future__ import annotations

import re

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.pixel_depth import (
    HIGH_BYTE,
    ValueRange,
    check_choice,
    eight_bit,
    joined,
    linear_rule,
    range_of,
    rule_for,
    small_part,
)


def test_a_rule_names_its_range_exactly() -> None:
    assert linear_rule(0, 4095) == "linear: 0..4095 to 0..255, rounded half up, clipped"
    for low, high in ((0, 4095), (-1024, 3071), (0.1, 0.30000000000000004), (-1e-30, 3.4028234663852886e38)):
        assert range_of(linear_rule(low, high)) == (low, high)
    assert range_of(HIGH_BYTE) is None
    assert range_of("scale") is None
    assert range_of("0..4095") == (0, 4095)


@pytest.mark.parametrize("text", ["5..5", "9..3", "0..1e99"])
def test_a_range_goes_up_within_what_pixels_hold(text: str) -> None:
    with pytest.raises(ValueError, match="does not go up within what pixels hold: give LOW"):
        range_of(text)


def test_the_high_byte() -> None:
    assert eight_bit(np.array([[0, 255, 256, 4095, 65535]], np.uint16), HIGH_BYTE).tolist() == [[0, 0, 1, 15, 255]]


def test_linear_is_exact_for_all_twelve_bit_values() -> None:
    values = np.arange(4096)
    # Half up, in whole numbers: (2 * 255 * v + 4095) // (2 * 4095).
    expected = (510 * values + 4095) // 8190
    for dtype in (np.uint16, np.int32, np.float32):
        result = eight_bit(values.astype(dtype).reshape(64, 64), linear_rule(0, 4095))
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result.reshape(-1), expected)


def test_linear_clips_and_rounds_half_up() -> None:
    rule = linear_rule(0, 510)
    assert eight_bit(np.array([[-7, 0, 1, 2, 3, 509, 510, 70000]], np.int32), rule).tolist() == [
        [0, 0, 1, 1, 2, 255, 255, 255]
    ]
    assert eight_bit(np.array([[-1.0, 0.5, 2.0]]), linear_rule(0.0, 1.0)).tolist() == [[0, 128, 255]]


def test_an_image_of_several_pieces() -> None:
    values = np.tile(np.array([0, 4095], np.uint16), (1100, 1000))
    result = eight_bit(values, linear_rule(0, 4095))
    np.testing.assert_array_equal(result, np.tile(np.array([0, 255], np.uint8), (1100, 1000)))


def test_ranges_of_one_kind_are_joined() -> None:
    found = joined([ValueRange("16 bits", 5, 9), ValueRange("8 bits", 0, 255), ValueRange("16 bits", 2, 8)])
    assert found == (ValueRange("16 bits", 2, 9, images=2), ValueRange("8 bits", 0, 255))
    assert joined([]) == ()


def test_choices() -> None:
    for choice in ("high-byte", "scale", "0..4095", "-1.5..1e3"):
        assert check_choice(choice) == choice
    for choice, words in (("x", "none of 'high-byte', 'scale' and no range"), ("0..", "no range"), ("9..3", "go up")):
        with pytest.raises(ValueError, match=words):
            check_choice(choice)


def test_the_rule_of_a_choice() -> None:
    found = (ValueRange("16 bits", 3, 4000), ValueRange("32 bits", -5.5, 100), ValueRange("8 bits", 0, 255))
    assert rule_for("scale", lambda: found) == linear_rule(-5.5, 4000)


def test_nobody_looks_where_the_range_is_not_asked_for() -> None:
    def look() -> tuple[ValueRange, ...]:
        raise AssertionError

    assert rule_for("high-byte", look) == HIGH_BYTE
    assert rule_for("0..4095", look) == linear_rule(0, 4095)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((), "there are none"),
        ((ValueRange("8 bits", 0, 255),), "there are none"),
        ((ValueRange("16 bits", 7, 7),), "all values in them are 7"),
    ],
)
def test_nothing_to_scale(found: tuple[ValueRange, ...], words: str) -> None:
    with pytest.raises(DataError, match=rf"{words}: leave it out, or give a range"):
        rule_for("scale", lambda: found)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ValueRange("16 bits", 0, 4095, 9),
            r"^9 training.*0\.\.4095 of 0\.\.65535.*0\.\.15 of.*--sixteen-bit scale",
        ),
        (ValueRange("16 bits", 32768, 34000, 1), r"1 training image of 16 bits.*128\.\.132"),
        (ValueRange("16 bits in colour", 0, 15, 9), "save them with 8 bits"),
        (ValueRange("8 bits", 0, 9, 9), "masks or indices"),
    ],
)
def test_a_small_part_of_the_range_is_said(found: ValueRange, words: str) -> None:
    said = small_part(found)
    assert said is not None
    assert re.search(words, said), said


@pytest.mark.parametrize(
    "found",
    [
        ValueRange("16 bits", 0, 16384),
        ValueRange("8 bits", 0, 64),
        ValueRange("8 bits", 100, 255),
        ValueRange("32 bits", 0, 1),
    ],
)
def test_a_large_part_is_not(found: ValueRange) -> None:
    assert small_part(found) is None
