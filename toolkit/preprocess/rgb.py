"""From an opened image to upright RGB of 8 bits; and the values that it holds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from toolkit.decoding_limits import RefusedError
from toolkit.pixel_depth import HIGH_BYTE, Kind, ValueRange, eight_bit, range_of
from toolkit.preprocess.orientation import orientation_of, turned

_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA", "RGBa"})
_EIGHT_BIT_MODES = _OPAQUE_MODES | _ALPHA_MODES
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_SCALED_MODES = _DEEP_MODES | {"F"}
_NO_DEEP_COLOUR = (
    "it has 16 bits per channel, of which only the high byte can be had here, and the values are to be scaled; save it "
    "with 8 bits per channel, or as grey"
)


def upright_rgb(image: Image.Image, sixteen_bit: str = HIGH_BYTE) -> Image.Image:
    """Load an image and make RGB of it, upright.

    Args:
        image: opened, loaded or not.
        sixteen_bit: see ``Preprocessing.sixteen_bit``.

    Raises:
        RefusedError: it has no pixels, or of a type that the rule does not take.
        Exception: whatever Pillow raises on bad input.
    """
    rgb = loaded_rgb(image, sixteen_bit)
    # After load(): Pillow turns TIFF images itself then, and PNG may carry EXIF behind the pixels.
    return turned(rgb, orientation_of(image))


def loaded_rgb(image: Image.Image, sixteen_bit: str) -> Image.Image:
    """Load an image and make RGB of it as it lies in the file, see ``upright_rgb``."""
    if range_of(sixteen_bit) is not None and _is_deep_colour(image):
        raise RefusedError(_NO_DEEP_COLOUR)
    _load(image)
    return _opaque_rgb(image, sixteen_bit)


def values_of(image: Image.Image, *, any_depth: bool) -> ValueRange:
    """Load an image and return the range of its values, see ``examine``."""
    deep_colour = _is_deep_colour(image)
    if any_depth and deep_colour:
        raise RefusedError(_NO_DEEP_COLOUR)
    if any_depth and image.mode in _SCALED_MODES:
        _load(image)
        return _deep_values(image)
    rgb = upright_rgb(image)
    if image.mode in _DEEP_MODES:
        return _deep_values(image)
    bands = np.array(rgb.getextrema())
    kind: Kind = "16 bits in colour" if deep_colour else "8 bits"
    return ValueRange(kind, int(bands.min()), int(bands.max()))


def _load(image: Image.Image) -> None:
    if 0 in image.size:
        raise RefusedError(f"its size is {image.width} x {image.height}: it has no pixels")
    image.load()


def _opaque_rgb(image: Image.Image, sixteen_bit: str) -> Image.Image:
    if image.mode in (_DEEP_MODES if range_of(sixteen_bit) is None else _SCALED_MODES):
        image = _eight_bit(image, sixteen_bit)
    elif image.mode == "F":
        raise RefusedError(
            "its pixel type F has no defined range here; save it with 8 or 16 bits per channel, or fine-tune with "
            "--sixteen-bit scale"
        )
    elif image.mode not in _EIGHT_BIT_MODES:
        raise RefusedError(f"its pixel type {image.mode} has no way to RGB here; save it as RGB or grey")
    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    layered = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(layered, mask=layered.getchannel("A"))
    return white


def _eight_bit(image: Image.Image, sixteen_bit: str) -> Image.Image:
    values = np.asarray(image)
    found = _deep_values(image)
    if range_of(sixteen_bit) is None and found.kind != "16 bits":
        raise RefusedError(
            "its integer pixels lie outside 0..65535; save it with 8 or 16 bits per channel, or fine-tune with "
            "--sixteen-bit scale"
        )
    pixels = eight_bit(values, sixteen_bit)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = 255
    return Image.fromarray(pixels)


def _deep_values(image: Image.Image) -> ValueRange:
    """Return the range of a loaded grey image of 16 or 32 bits."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # NaN goes through both
        raise RefusedError("it holds values that are not finite")
    return ValueRange("16 bits" if image.mode != "F" and low >= 0 and high <= 65535 else "32 bits", low, high)


def _is_deep_colour(image: Image.Image) -> bool:
    """Tell of an image that is not loaded yet whether Pillow will cut its colours from 16 bits to 8."""
    decoders = [tile[3] for tile in getattr(image, "tile", ())]
    raw_modes = [str(arguments[0] if isinstance(arguments, tuple) else arguments) for arguments in decoders]
    return image.mode not in _SCALED_MODES and any(";16" in mode for mode in raw_modes)
