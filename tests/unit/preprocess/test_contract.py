"""The contract: which rules there are, and which are refused."""

from __future__ import annotations

import pytest
from pictures import squash
from pydantic import ValidationError

from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import LONGEST_SIDE, Preprocessing
from toolkit.preprocess.contract import scaled_size, short_sides


def test_round_trip() -> None:
    assert Preprocessing.model_validate_json(squash().model_dump_json()) == squash()


@pytest.mark.parametrize(
    "change",
    [
        {"sixteen_bit": "low byte"},
        {"sixteen_bit": linear_rule(0, 4095)},
        {"sixteen_bit": "linear: 9..3 to 0..255, rounded half up, clipped"},
        {"height": 0},
        {"crop_fraction": 0},
        {"crop_fraction": 1.1},
        {"alpha": "on black"},
        {"decode": "reduced"},
        {"unknown": 1},
    ],
)
def test_other_rules_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        squash(**change)


def test_without_the_field_it_is_full() -> None:
    raw = squash().model_dump()
    del raw["decode"]
    assert not Preprocessing.model_validate(raw).reduced
    assert Preprocessing.model_validate(raw) == squash()


def test_what_would_be_cut_from_an_image_of_absurd_size_is_refused() -> None:
    assert squash(LONGEST_SIDE // 2, crop_fraction=0.5).height == LONGEST_SIDE // 2
    with pytest.raises(ValidationError, match="cut from an image with more than 65536 pixels a side"):
        squash(LONGEST_SIDE // 2 + 1, crop_fraction=0.5)


def test_squash_scales_to_the_target_whatever_comes() -> None:
    assert scaled_size(61, 40, squash(height=8, width=12)) == (12, 8)


@pytest.mark.parametrize(("size", "scaled"), [((61, 40), (27, 18)), ((40, 61), (18, 27)), ((36, 36), (18, 18))])
def test_crop_scales_the_short_side_to_the_target_over_its_fraction(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    preprocessing = squash(16, resize="crop", crop_fraction=0.875)
    assert short_sides(preprocessing) == (18, 18)
    assert scaled_size(*size, preprocessing) == scaled


def test_sides_are_rounded_half_up() -> None:
    assert scaled_size(9, 8, squash(4, resize="crop")) == (5, 4)
    assert short_sides(squash(height=5, width=1, resize="crop", crop_fraction=0.4)) == (3, 13)
