"""Images decoded as a contract says: large JPEGs, if it says so, at a part of their size."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from toolkit.decoding_limits import LARGEST_FILE_BYTES_PER_PIXEL, MAX_PIXELS, RefusedError, is_coded_by_dct
from toolkit.preprocess.contract import DENOMINATORS, Preprocessing, scaled_size
from toolkit.preprocess.file_formats import open_image
from toolkit.preprocess.opening import made_of
from toolkit.preprocess.orientation import BOTTOM_TO_TOP, RIGHT_TO_LEFT, orientation_of, turned, upright_size
from toolkit.preprocess.pillow_errors import PILLOW_ERRORS
from toolkit.preprocess.rgb import loaded_rgb, upright_rgb
from toolkit.preprocess.sources import ImageSource, content_of


@dataclass(frozen=True)
class Picture:
    """A picture that is decoded and not resized yet.

    Attributes:
        rgb: RGB pixels, upright, perhaps at a reduced scale.
        size: its width and height at full scale, upright.
        box: the part of ``rgb`` that it covers, as left, top, right and bottom in fractions of pixels: decoding at a
            reduced scale rounds sides up. None for all of it.
    """

    rgb: Image.Image
    size: tuple[int, int]
    box: tuple[float, float, float, float] | None = None


def decoded_for(source: ImageSource, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image as ``prepare`` does, and leave out the resizing.

    Args:
        source: see ``ImageSource``.
        preprocessing: what to do.
        max_pixels: see ``prepare``.

    Returns:
        What is resized: RGB, upright, of a JPEG perhaps at a reduced scale.

    Raises:
        ImageError: naming the source and the reason.
    """
    return made_of(source, max_pixels, decoder(source, preprocessing, max_pixels)).rgb


def decoder(source: object, preprocessing: Preprocessing, max_pixels: int) -> Callable[[Image.Image], Picture]:
    """Return what decodes an image as the preprocessing says; somebody's own Pillow image is not made smaller."""
    return partial(
        _picture, preprocessing=preprocessing, max_pixels=max_pixels, own=not isinstance(source, Image.Image)
    )


def _picture(image: Image.Image, preprocessing: Preprocessing, max_pixels: int, *, own: bool) -> Picture:
    denominator = _denominator(image, preprocessing)
    file = None if denominator == 1 else image if own else _opened_again(image, max_pixels)
    if file is None or not _can_be_reduced(file):
        rgb = upright_rgb(image, preprocessing.sixteen_bit)
        return Picture(rgb, rgb.size)
    # Of the image that was given: whoever opened it may have changed its EXIF since.
    orientation = orientation_of(image)
    width, height = image.size
    # Pillow takes the largest of 8, 4, 2 that leaves at least the size it is told, which is this one then. The mode,
    # which it could change too, stays the file's.
    file.draft(None, (width // denominator, height // denominator))
    rgb = turned(loaded_rgb(file, preprocessing.sixteen_bit), orientation)
    full = upright_size((width, height), orientation)
    across, down = full[0] / denominator, full[1] / denominator
    left = rgb.width - across if orientation in RIGHT_TO_LEFT else 0.0
    top = rgb.height - down if orientation in BOTTOM_TO_TOP else 0.0
    return Picture(rgb, full, (left, top, left + across, top + down))


def _denominator(image: Image.Image, preprocessing: Preprocessing) -> int:
    """Return at which part of its size an image is to be decoded: 2, 4 or 8 of a large JPEG that is not decoded yet."""
    if not preprocessing.reduced or not isinstance(image, JpegImageFile) or not image.tile or image.decoderconfig:
        return 1
    width, height = upright_size(image.size, orientation_of(image))
    across, down = scaled_size(width, height, preprocessing)
    fitting = (part for part in DENOMINATORS if width >= 2 * part * across and height >= 2 * part * down)
    return next(fitting, 1)


def _can_be_reduced(image: Image.Image) -> bool:
    """Tell whether the decoder of a JPEG that is not decoded yet makes fewer pixels of it when it is told to."""
    stream = getattr(image, "fp", None)
    if stream is None:
        return False
    at = stream.tell()
    coded = is_coded_by_dct(stream)
    stream.seek(at)
    return coded


def _opened_again(image: Image.Image, max_pixels: int) -> Image.Image | None:
    """Open the file of somebody's Pillow image once more, for theirs would be a small picture from then on.

    None where that cannot be done, or another frame than the first is meant.
    """
    file = getattr(image, "fp", None)
    if file is None or image.tell() != 0:
        return None
    try:
        again = open_image(io.BytesIO(content_of(file, LARGEST_FILE_BYTES_PER_PIXEL * max_pixels)))
    except (RefusedError, *PILLOW_ERRORS):
        return None
    same = isinstance(again, JpegImageFile) and (again.size, again.mode) == (image.size, image.mode)
    return again if same else None
