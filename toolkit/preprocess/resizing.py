"""Images, or parts of them, at the size that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import ImageError
from toolkit.preprocess.contract import Preprocessing, scaled_size, short_sides
from toolkit.preprocess.opening import made_of
from toolkit.preprocess.reduced import Picture, decoder
from toolkit.preprocess.sources import ImageSource, describe

Part: TypeAlias = tuple[float, float, float, float]
"""A part of a prepared image: left, top, right and bottom edge as shares of its width and height, from 0 to 1."""
WHOLE: Final[Part] = (0.0, 0.0, 1.0, 1.0)

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


def prepare(source: ImageSource, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image and bring it to the model's size.

    ``squash`` scales each side on its own. ``crop`` scales the short side to target / crop_fraction and cuts the centre
    out, also where the image has the target size already. A scaling that changes no side changes no pixel.

    Where ``Preprocessing.decode`` is the reduced one, a large JPEG is decoded at a half, a quarter or an eighth of its
    size. A Pillow image of one is read as that file, and left undecoded, unless it is decoded already: then it is
    pixels, as arrays are, which are resized as they are.

    Args:
        source: see ``ImageSource``.
        preprocessing: what to do.
        max_pixels: see ``decode``. An image counts with its own size, at whatever part of it it is decoded: of a
            progressive JPEG that is what the decoder holds.

    Returns:
        uint8 ``[height, width, 3]`` RGB.

    Raises:
        ImageError: naming the source and the reason.
    """
    (whole,) = _resized(source, preprocessing, max_pixels, [WHOLE])
    return np.array(whole)


def prepare_batch(
    sources: Sequence[ImageSource], preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Prepare several images (see ``prepare``) into one array.

    Returns:
        uint8 ``[n, height, width, 3]`` RGB.

    Raises:
        ImageError: naming the first source that fails and the reason.
    """
    batch = np.empty((len(sources), preprocessing.height, preprocessing.width, 3), np.uint8)
    for row, source in zip(batch, sources, strict=True):
        (whole,) = _resized(source, preprocessing, max_pixels, [WHOLE])
        row[...] = np.asarray(whole)
    return batch


def prepare_parts(
    source: ImageSource, preprocessing: Preprocessing, parts: Sequence[Part], max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Decode an image once and bring parts of it to the model's size each, as training augments.

    The whole becomes what ``prepare`` makes of it. A smaller part is resampled from the pixels that the whole would be
    resampled from, by the same filter: it is as sharp as the decoded image allows. A JPEG is decoded at the size that
    the whole asks for.

    Args:
        source: see ``ImageSource``.
        preprocessing: what to do.
        parts: of what ``prepare`` returns.
        max_pixels: see ``prepare``.

    Returns:
        uint8 ``[len(parts), height, width, 3]`` RGB.

    Raises:
        ImageError: naming the source and the reason.
    """
    return np.stack([np.asarray(image) for image in _resized(source, preprocessing, max_pixels, parts)])


def _resized(
    source: ImageSource, preprocessing: Preprocessing, max_pixels: int, parts: Sequence[Part]
) -> list[Image.Image]:
    target = (preprocessing.width, preprocessing.height)
    if target[0] * target[1] > max_pixels:
        raise ImageError(
            f"the model's input has {target[0]} x {target[1]} pixels, more than the {max_pixels} in all that an image "
            "may have: raise the limit with --max-pixels, in Python with max_pixels."
        )
    resample = _FILTERS[preprocessing.interpolation]
    short = min(short_sides(preprocessing))

    def scaled(width: int, height: int) -> int:
        across, down = scaled_size(width, height, preprocessing)
        return across * down

    decoded = decoder(source, preprocessing, max_pixels)

    def resized(image: Image.Image) -> list[Image.Image]:
        picture = decoded(image)
        width, height = scaled_size(*picture.size, preprocessing)
        if width * height > max_pixels:
            was = f"{picture.size[0]} x {picture.size[1]} pixels"
            thin = f"{was}: too thin to be scaled to {short} pixels on the short side"
            raise ImageError(f"{describe(source)} is {thin}. Use resize = 'squash'.")
        left, top = (width - target[0]) // 2, (height - target[1]) // 2

        def made(part: Part) -> Image.Image:
            if part != WHOLE:
                return picture.rgb.resize(target, resample, _box_of(part, picture, preprocessing))
            whole = picture.rgb.resize((width, height), resample, picture.box)
            if preprocessing.resize == "squash":
                return whole
            return whole.crop((left, top, left + target[0], top + target[1]))

        return [made(part) for part in parts]

    return made_of(source, max_pixels, resized, scaled)


def _box_of(part: Part, picture: Picture, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Return which of the decoded pixels a part of the prepared image is made of, in fractions of pixels."""
    left, top, right, bottom = picture.box or (0.0, 0.0, *picture.rgb.size)
    width, height = scaled_size(*picture.size, preprocessing)
    across, down = (right - left) / width, (bottom - top) / height
    cut_left, cut_top = (width - preprocessing.width) // 2, (height - preprocessing.height) // 2
    edges = (
        left + across * (cut_left + part[0] * preprocessing.width),
        top + down * (cut_top + part[1] * preprocessing.height),
        left + across * (cut_left + part[2] * preprocessing.width),
        top + down * (cut_top + part[3] * preprocessing.height),
    )
    # What rounding puts beyond the last pixel Pillow refuses.
    return (
        max(edges[0], 0.0),
        max(edges[1], 0.0),
        min(edges[2], picture.rgb.width),
        min(edges[3], picture.rgb.height),
    )
