"""From what is given to an opened image: nothing is decoded of one that costs more than the limit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.decoding_limits import (
    BUDGET,
    MAX_PIXELS,
    RefusedError,
    TooLargeError,
    promised_size,
    require_few_scans,
    require_pixels,
    too_many_pixels,
)
from toolkit.errors import ImageError
from toolkit.files import stands_for_another
from toolkit.preprocess.file_formats import open_image
from toolkit.preprocess.pillow_errors import mapped_errors, pillow_warnings_ignored
from toolkit.preprocess.sources import ImageSource, describe, is_one_image, stream_of

_Scaled: TypeAlias = Callable[[int, int], int]
_Hold: TypeAlias = Callable[[int, int], None]
_Made = TypeVar("_Made")

_HEAD_BYTES = 64


def _unscaled(width: int, height: int) -> int:
    return width * height


def made_of(
    source: ImageSource, max_pixels: int, make: Callable[[Image.Image], _Made], scaled: _Scaled = _unscaled
) -> _Made:
    """Return what ``make`` makes of an image, see ``made_or_refused``.

    Raises:
        ImageError: naming the source and the reason.
    """
    try:
        return made_or_refused(source, max_pixels, make, scaled)
    except RefusedError as refused:
        raise ImageError(f"{describe(source)} cannot be read as an image: {refused}.") from refused


def made_or_refused(
    source: ImageSource, max_pixels: int, make: Callable[[Image.Image], _Made], scaled: _Scaled = _unscaled
) -> _Made:
    """Return what ``make`` makes of an image, whose share of the budget is held until it has.

    Args:
        source: see ``ImageSource``.
        max_pixels: see ``decode``.
        make: gets the image, which is not loaded yet.
        scaled: pixels that ``make`` makes of a picture of a width and height.

    Raises:
        RefusedError: the reason, without the source.
    """
    with BUDGET.share() as share:

        def hold(width: int, height: int) -> None:
            share.claim(max(width * height, scaled(width, height), scaled(height, width)), max_pixels)

        return _decoded(source, max_pixels, hold, make)


def opened(stream: BinaryIO, max_pixels: int, hold: _Hold) -> Image.Image:
    """Open an image file, if it is small enough, without decoding it.

    Args:
        stream: the file.
        max_pixels: see ``decode``.
        hold: is given each width and height that take memory from then on.

    Raises:
        RefusedError: it is too large, or no image by its first bytes.
        Exception: whatever Pillow raises on bad input.
    """
    if stream.seek(0, os.SEEK_END) == 0:
        raise RefusedError("the file is empty")
    stream.seek(0)
    if (reason := stands_for_another(stream.read(_HEAD_BYTES))) is not None:
        raise RefusedError(reason)
    promised = promised_size(stream, max_pixels)
    if promised != (0, 0):
        hold(*promised)
    _raise_pillows_limit(max_pixels)
    try:
        stream.seek(0)
        image = open_image(stream)
    except Image.DecompressionBombError as error:  # which does not say how many there are
        raise TooLargeError(too_many_pixels("", min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or 0)))) from error
    require_pixels(*image.size, max_pixels)
    if image.width * image.height > promised[0] * promised[1]:
        hold(*image.size)
    if image.info.get("progressive"):
        at = stream.tell()
        require_few_scans(stream)
        stream.seek(at)
    return image


def _decoded(source: ImageSource, max_pixels: int, hold: _Hold, make: Callable[[Image.Image], _Made]) -> _Made:
    if isinstance(source, np.ndarray):
        return make(_of_array(source, hold))
    if not is_one_image(source):
        raise RefusedError(
            "give a path, the bytes of an image file, a binary file that is open, a Pillow image or a uint8 array"
        )
    with mapped_errors(), pillow_warnings_ignored:
        if isinstance(source, Image.Image):
            require_pixels(*source.size, max_pixels)
            hold(*source.size)
            return make(source)
        with stream_of(source, max_pixels) as stream:
            return make(opened(stream, max_pixels, hold))


def _raise_pillows_limit(max_pixels: int) -> None:
    """Raise Pillow's own limit, which is the whole process's, where the caller asks for more than it allows."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > max(MAX_PIXELS, 2 * Image.MAX_IMAGE_PIXELS):
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)


def _of_array(array: npt.NDArray[Any], hold: _Hold) -> Image.Image:
    if array.dtype != np.uint8:
        raise RefusedError(f"its dtype is {array.dtype}, and it must be uint8 with values 0..255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise RefusedError(
            f"its shape is {list(array.shape)}, and it must be [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]"
            + (", one image each: give a batch as a list of them, list(array)" if array.ndim == 4 else "")
        )
    if array.size == 0:
        raise RefusedError(f"its shape is {list(array.shape)}: it has no pixels")
    hold(array.shape[1], array.shape[0])
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array))
