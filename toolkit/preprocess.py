"""The one place where an image file becomes uint8 pixels. Training, verification, benchmarks and serving all call it.

Pillow and numpy only. Every decision taken here is a field of ``Preprocessing``, which stands in the manifest.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.errors import ImageError

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, the bytes of an image file, a Pillow image, or a uint8 array ``[h, w]``, ``[h, w, 1]``, ``[h, w, 3]`` or
``[h, w, 4]``."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. The others are rare as photographs, and some start another program
(EPS)."""

IMAGE_SUFFIXES = (
    ".apng",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Suffixes, in lower case, by which a file in a folder is taken as an image. The content decides how it is read."""

LONGEST_SIDE = 65_536
"""Pixels of a side of what a model takes, and of the image that it is cut from."""

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA", "RGBa"})
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})

# What Pillow's readers let through on damaged input. Warnings are here for callers that turn them into errors.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


class Preprocessing(BaseModel):
    """What the host does to an image before the graph sees it; stands in the manifest as it is.

    Each decision that is not a choice is a field with one allowed value, so that a bundle made under another rule is
    refused, not misread.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(ge=1, le=LONGEST_SIDE)
    width: int = Field(ge=1, le=LONGEST_SIDE)
    resize: Literal["squash", "crop"]
    """``squash``: both sides to the target. ``crop``: the short side to target / crop_fraction, then the centre."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"]
    crop_fraction: float = Field(1.0, gt=0.0, le=1.0)

    color: Literal["RGB, 8 bits per channel"] = "RGB, 8 bits per channel"
    color_profile: Literal["ignored"] = "ignored"
    exif_orientation: Literal["applied; unreadable EXIF is ignored"] = "applied; unreadable EXIF is ignored"
    animation: Literal["first frame or page"] = "first frame or page"
    grey: Literal["repeated in the three channels"] = "repeated in the three channels"
    palette: Literal["looked up"] = "looked up"
    alpha: Literal["composited on white"] = "composited on white"
    cmyk: Literal["Pillow's formula, Adobe inversion undone"] = "Pillow's formula, Adobe inversion undone"
    sixteen_bit: Literal["high byte: value // 256"] = "high byte: value // 256"
    wider_pixels: Literal["refused: floating point, and integers outside 0..65535"] = (
        "refused: floating point, and integers outside 0..65535"
    )
    resampling: Literal["Pillow, on 8-bit RGB, antialiased; no change where the size fits"] = (
        "Pillow, on 8-bit RGB, antialiased; no change where the size fits"
    )
    crop_rounding: Literal["resized sides: half up; crop offset: down"] = "resized sides: half up; crop offset: down"

    @model_validator(mode="after")
    def _is_cut_from_something_of_bounded_size(self) -> Self:
        if max(self.height, self.width) > LONGEST_SIDE * self.crop_fraction:
            raise ValueError(
                f"{self.height} x {self.width} with a crop_fraction of {self.crop_fraction:g} would be cut from an "
                f"image with more than {LONGEST_SIDE} pixels a side"
            )
        return self


def decode(source: ImageSource) -> npt.NDArray[np.uint8]:
    """Turn an image into RGB pixels at its own size.

    Args:
        source: see ``ImageSource``. Arrays must be uint8; of a Pillow image the current frame is taken, of a file the
            first.

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
    return np.array(_rgb_or_error(source))


def prepare(source: ImageSource, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Decode an image and bring it to the model's size.

    ``squash`` scales each side on its own. ``crop`` scales the short side to target / crop_fraction and cuts the centre
    out, also where the image has the target size already. A scaling that changes no side changes no pixel.

    Returns:
        uint8 ``[height, width, 3]`` RGB.

    Raises:
        ImageError: naming the source and the reason.
    """
    return np.array(_resized(source, preprocessing))


def prepare_batch(sources: Sequence[ImageSource], preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Prepare several images (see ``prepare``) into one array.

    Returns:
        uint8 ``[n, height, width, 3]`` RGB.

    Raises:
        ImageError: naming the first source that fails and the reason.
    """
    batch = np.empty((len(sources), preprocessing.height, preprocessing.width, 3), np.uint8)
    for row, source in zip(batch, sources, strict=True):
        row[...] = np.asarray(_resized(source, preprocessing))
    return batch


def fault(source: ImageSource) -> str | None:
    """Say in a few words why an image cannot be decoded; None if it can. The image is decoded in full."""
    try:
        _rgb(source)
    except _RefusedError as refused:
        return str(refused)
    return None


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files below a folder, by suffix, sorted by the code points of their relative path.

    Names that start with a dot are left out. Links are followed; a folder that is reached twice is listed once.

    Raises:
        ImageError: the folder, or one below it, cannot be read.
    """
    root = Path(folder)
    seen = {os.path.realpath(root)}
    images = []
    for current, folders, files in os.walk(root, followlinks=True, onerror=_raise_unlisted):
        entered = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(current, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                entered.append(name)
        folders[:] = entered
        images += [
            Path(current, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(images, key=lambda path: path.relative_to(root).as_posix())


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that can be printed and stored, with bytes that are not UTF-8 as ``\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _raise_unlisted(error: OSError) -> NoReturn:
    raise ImageError(f"the folder {printable(error.filename)} cannot be listed: {error.strerror}.") from error


class _RefusedError(Exception):
    """Why a source is not an image, without its name."""


def _rgb_or_error(source: ImageSource) -> Image.Image:
    try:
        return _rgb(source)
    except _RefusedError as refused:
        raise ImageError(f"{_name(source)} cannot be read as an image: {refused}.") from refused


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return printable(source)
    kinds: tuple[tuple[type, str], ...] = ((bytes, "bytes"), (Image.Image, "a Pillow image"), (np.ndarray, "an array"))
    kind = next((text for known, text in kinds if isinstance(source, known)), type(source).__name__)
    file_name = getattr(source, "filename", "")
    return f"the image given as {kind}" + (
        f" ({printable(file_name)})" if isinstance(file_name, str) and file_name else ""
    )


def _rgb(source: ImageSource) -> Image.Image:
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if not isinstance(source, Image.Image | bytes | str | os.PathLike):
        raise _RefusedError("give a path, the bytes of an image file, a Pillow image or a uint8 array")
    if source in (b"", ""):
        raise _RefusedError("it is empty")
    with _mapped_errors(), _pillow_warnings_ignored:
        if isinstance(source, Image.Image):
            return _from_pillow(source)
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                raise _RefusedError("the file is empty")
            return _from_pillow(Image.open(stream, formats=FORMATS))


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise _RefusedError(f"its dtype is {array.dtype}, and it must be uint8 with values 0..255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise _RefusedError(
            f"its shape is {list(array.shape)}, and it must be [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]"
        )
    if array.size == 0:
        raise _RefusedError(f"its shape is {list(array.shape)}: it has no pixels")
    return _opaque_rgb(
        Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array))
    )


def _from_pillow(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise _RefusedError(f"its size is {image.width} x {image.height}: it has no pixels")
    image.load()
    rgb = _opaque_rgb(image)
    # After load(): Pillow turns TIFF images itself then, and PNG may carry EXIF behind the pixels.
    transpose = _TRANSPOSES.get(_orientation(image))
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _PILLOW_ERRORS:  # the pixels are good; a camera's damaged note about them is not worth losing them
        return 1
    return value if isinstance(value, int) else 1


def _opaque_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_MODES:
        image = _eight_bit(image)
    elif image.mode not in _OPAQUE_MODES | _ALPHA_MODES:
        raise _RefusedError(
            f"its pixel type {image.mode} has no defined range here; save it with 8 or 16 bits per channel"
        )
    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(layered, mask=layered.getchannel("A"))
    return white


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise _RefusedError("its integer pixels lie outside 0..65535; save it with 8 or 16 bits per channel")
    pixels = (values >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = 255
    return Image.fromarray(pixels)


def _resized(source: ImageSource, preprocessing: Preprocessing) -> Image.Image:
    image = _rgb_or_error(source)
    target = (preprocessing.width, preprocessing.height)
    resample = _FILTERS[preprocessing.interpolation]
    if preprocessing.resize == "squash":
        return image.resize(target, resample)
    short = [_round(side / preprocessing.crop_fraction) for side in target]
    scale = max(short[0] / image.width, short[1] / image.height)
    width, height = max(short[0], _round(image.width * scale)), max(short[1], _round(image.height * scale))
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        thin = f"{image.width} x {image.height} pixels: too thin to be scaled to {min(short)} pixels on the short side"
        raise ImageError(f"{_name(source)} is {thin}. Use resize = 'squash'.")
    left, top = (width - target[0]) // 2, (height - target[1]) // 2
    return image.resize((width, height), resample).crop((left, top, left + target[0], top + target[1]))


def _round(value: float) -> int:
    return int(value + 0.5)


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    """Turn whatever Pillow raises on bad input into the reason for a person."""
    try:
        yield
    except _PILLOW_ERRORS as error:
        raise _RefusedError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnidentifiedImageError):
        return f"it is in none of the formats {', '.join(FORMATS)}, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which may be an attack on memory"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged ({' '.join(str(error).split()).rstrip('.') or type(error).__name__})"


class _PillowWarningsIgnored:
    """Ignore the warnings of Pillow's own modules while any thread decodes.

    ``warnings.catch_warnings`` swaps the filters of the whole process, and threads that overlap can leave the wrong
    ones behind. This adds one narrow filter when the first thread enters and takes the same one out when the last
    leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filter: object = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1 or not any(entry is self._filter for entry in warnings.filters):
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._filter = warnings.filters[0]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                warnings.filters = [entry for entry in warnings.filters if entry is not self._filter]


_pillow_warnings_ignored = _PillowWarningsIgnored()
