"""Images decoded at their own size: their pixels, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from toolkit.decoding_limits import MAX_PIXELS, RefusedError
from toolkit.pixel_depth import HIGH_BYTE, ValueRange
from toolkit.preprocess.opening import made_of, made_or_refused
from toolkit.preprocess.rgb import upright_rgb, values_of
from toolkit.preprocess.sources import ImageSource


@dataclass(frozen=True)
class Examined:
    """What an image file turned out to be.

    Attributes:
        reason: in a few words, why it cannot be decoded; None if it can.
        values: the range of its values; None if it cannot be decoded.
    """

    reason: str | None
    values: ValueRange | None = None


def decode(source: ImageSource, max_pixels: int = MAX_PIXELS, *, sixteen_bit: str = HIGH_BYTE) -> npt.NDArray[np.uint8]:
    """Turn an image into RGB pixels at its own size, whatever ``Preprocessing.decode`` says.

    Args:
        source: see ``ImageSource``. Arrays must be uint8; of a Pillow image the current frame is taken, of a file the
            first.
        max_pixels: images of more pixels are refused before they are decoded, and the images that threads decode at
            the same time have at most so many together. Arrays, which are pixels already, are not refused.
        sixteen_bit: what becomes of pixels of more than 8 bits, see ``Preprocessing.sixteen_bit``.

    Returns:
        uint8 ``[h, w, 3]``, contiguous. An array that is this already is returned as it is, not copied.

    Raises:
        ImageError: naming the source and the reason.
    """
    if (
        isinstance(source, np.ndarray)
        and source.dtype == np.uint8
        and source.ndim == 3
        and source.shape[2] == 3
        and source.size
    ):
        return np.ascontiguousarray(source)
    return made_of(source, max_pixels, lambda image: np.array(upright_rgb(image, sixteen_bit)))


def fault(source: ImageSource, max_pixels: int = MAX_PIXELS) -> str | None:
    """Say in a few words why an image cannot be decoded; None if it can. The image is decoded in full."""
    return examine(source, max_pixels).reason


def examine(source: ImageSource, max_pixels: int = MAX_PIXELS, *, any_depth: bool = False) -> Examined:
    """Decode an image in full, and say why that cannot be done or which values it has.

    Args:
        source: see ``ImageSource``.
        max_pixels: see ``decode``.
        any_depth: take what a linear rule takes (see ``Preprocessing.sixteen_bit``), whatever its range.
    """
    try:
        return Examined(None, made_or_refused(source, max_pixels, partial(values_of, any_depth=any_depth)))
    except RefusedError as refused:
        return Examined(str(refused))
