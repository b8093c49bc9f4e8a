"""How a camera was held: EXIF's orientation, read and undone."""

from __future__ import annotations

from typing import Final

from PIL import ExifTags, Image

from toolkit.decoding_limits import exif_fits
from toolkit.preprocess.pillow_errors import PILLOW_ERRORS

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
RIGHT_TO_LEFT: Final = frozenset({2, 3, 6, 7})
"""Orientations of which the right edge of the file becomes the left one."""
BOTTOM_TO_TOP: Final = frozenset({3, 4, 7, 8})
"""Orientations of which the lower edge of the file becomes the upper one."""


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that an image's EXIF says, 1 to 8; 1 where there is none or it cannot be read."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes) and not exif_fits(exif):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except PILLOW_ERRORS:  # the pixels are good; a camera's damaged note about them is not worth losing them
        return 1
    return value if isinstance(value, int) else 1


def turned(rgb: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture upright."""
    transpose = _TRANSPOSES.get(orientation)
    return rgb if transpose is None else rgb.transpose(transpose)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return width and height of a picture once it is upright."""
    return (size[1], size[0]) if orientation in _SIDEWAYS else size
