"""What is done to an image, as it stands in the manifest; and the sizes that follow from it."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.pixel_depth import HIGH_BYTE, RULE_PATTERN, range_of

LONGEST_SIDE = 65_536
"""Pixels of a side of what a model takes, and of the image that it is cut from."""
DENOMINATORS: Final = (8, 4, 2)
"""Parts of its size at which a JPEG may be decoded, the smallest first."""
_REFUSED_WIDER: Final = "refused: floating point, and integers outside 0..65535"
_SCALED_WIDER: Final = "as 16 bits; refused: values that are not finite"
_DECODED_FULL: Final = "full: at the file's own size"
_DECODED_REDUCED: Final = (
    "reduced: JPEG by libjpeg's scaled DCT at the smallest of 1/1, 1/2, 1/4, 1/8 that leaves both sides at least twice "
    "as long as they are resized to"
)
DECODE_RULES: Final = {"full": _DECODED_FULL, "reduced": _DECODED_REDUCED}
"""What a recipe says to the value of ``Preprocessing.decode``."""


class Preprocessing(BaseModel):
    """What the host does to an image before the graph sees it; stands in the manifest as it is.

    Each decision that is not a choice is a field with one allowed value, so that a bundle made under another rule is
    refused, not misread.

    Raises:
        ValueError: the rule for 16 bits names no range, or does not fit the one for wider pixels.
    """

    # Built with the manifest that holds it, or when it is first used, and not by each import.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    height: int = Field(ge=1, le=LONGEST_SIDE)
    width: int = Field(ge=1, le=LONGEST_SIDE)
    resize: Literal["squash", "crop"]
    """``squash``: both sides to the target. ``crop``: the short side to target / crop_fraction, then the centre."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"]
    crop_fraction: float = Field(1.0, gt=0.0, le=1.0)
    decode: Literal[
        "full: at the file's own size",
        "reduced: JPEG by libjpeg's scaled DCT at the smallest of 1/1, 1/2, 1/4, 1/8 that leaves both sides at least "
        "twice as long as they are resized to",
    ] = _DECODED_FULL
    """At which size image files are decoded. Manifests from before there was a choice lack it, and mean the first."""

    color: Literal["RGB, 8 bits per channel"] = "RGB, 8 bits per channel"
    color_profile: Literal["ignored"] = "ignored"
    exif_orientation: Literal["applied; unreadable EXIF is ignored"] = "applied; unreadable EXIF is ignored"
    animation: Literal["first frame or page"] = "first frame or page"
    grey: Literal["repeated in the three channels"] = "repeated in the three channels"
    palette: Literal["looked up"] = "looked up"
    alpha: Literal["composited on white"] = "composited on white"
    cmyk: Literal["Pillow's formula, Adobe inversion undone"] = "Pillow's formula, Adobe inversion undone"
    sixteen_bit: str = Field(HIGH_BYTE, pattern=RULE_PATTERN)
    """``high byte: value // 256``, or ``linear: LOW..HIGH to 0..255, rounded half up, clipped``: then the range is that
    of the training images, so that one image alone is read as they were. A linear rule takes grey images; of colour
    with 16 bits only the high byte can be had, and it is refused."""
    wider_pixels: Literal[
        "refused: floating point, and integers outside 0..65535", "as 16 bits; refused: values that are not finite"
    ] = _REFUSED_WIDER
    """The second goes with a linear rule."""
    resampling: Literal["Pillow, on 8-bit RGB, antialiased; no change where the size fits"] = (
        "Pillow, on 8-bit RGB, antialiased; no change where the size fits"
    )
    crop_rounding: Literal["resized sides: half up; crop offset: down"] = "resized sides: half up; crop offset: down"

    @property
    def reduced(self) -> bool:
        """Whether large JPEGs are decoded at a part of their size."""
        return self.decode == _DECODED_REDUCED

    @model_validator(mode="after")
    def _rules_for_deep_pixels_fit(self) -> Self:
        fitting = _REFUSED_WIDER if range_of(self.sixteen_bit) is None else _SCALED_WIDER
        if self.wider_pixels != fitting:
            raise ValueError(f"with sixteen_bit {self.sixteen_bit!r}, wider_pixels must be {fitting!r}")
        return self

    @model_validator(mode="after")
    def _is_cut_from_something_of_bounded_size(self) -> Self:
        if max(self.height, self.width) > LONGEST_SIDE * self.crop_fraction:
            raise ValueError(
                f"{self.height} x {self.width} with a crop_fraction of {self.crop_fraction:g} would be cut from an "
                f"image with more than {LONGEST_SIDE} pixels a side"
            )
        return self


def rules_for_deep_pixels(sixteen_bit: str) -> dict[str, str]:
    """Return the fields of ``Preprocessing`` that say what happens to pixels of more than 8 bits.

    Args:
        sixteen_bit: see there.
    """
    wider = _REFUSED_WIDER if range_of(sixteen_bit) is None else _SCALED_WIDER
    return {"sixteen_bit": sixteen_bit, "wider_pixels": wider}


def smallest_reduced(denominator: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of the smallest upright JPEG that is decoded at one ``denominator``-th of its size."""
    squash = preprocessing.resize == "squash"
    width, height = (preprocessing.width, preprocessing.height) if squash else short_sides(preprocessing)
    return 2 * denominator * width, 2 * denominator * height


def short_sides(preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height that a crop scales to at least."""
    return _round(preprocessing.width / preprocessing.crop_fraction), _round(
        preprocessing.height / preprocessing.crop_fraction
    )


def scaled_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of a picture before anything is cut off."""
    if preprocessing.resize == "squash" or 0 in (width, height):
        return preprocessing.width, preprocessing.height
    short = short_sides(preprocessing)
    scale = max(short[0] / width, short[1] / height)
    return max(short[0], _round(width * scale)), max(short[1], _round(height * scale))


def _round(value: float) -> int:
    return int(value + 0.5)
