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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NoReturn, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.decoding_limits import (
    BUDGET,
    LARGEST_FILE_BYTES_PER_PIXEL,
    MAX_PIXELS,
    RefusedError,
    TooLargeError,
    exif_fits,
    is_coded_by_dct,
    promised_size,
    require_few_scans,
    require_pixels,
    too_many_pixels,
)
from toolkit.errors import ImageError, MissingDependencyError, first_line
from toolkit.files import open_regular, stands_for_another
from toolkit.image_files import READ, image_by_name, left_by_a_system, open_image
from toolkit.pixel_depth import HIGH_BYTE, RULE_PATTERN, Kind, ValueRange, eight_bit, range_of
from toolkit.printable import printable

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
)
"""A path; the bytes of an image file, or a binary file that holds them (read from its start if it can be); a Pillow
image; or a uint8 array ``[h, w]``, ``[h, w, 1]``, ``[h, w, 3]`` or ``[h, w, 4]``."""

Part: TypeAlias = tuple[float, float, float, float]
"""A part of a prepared image: left, top, right and bottom edge as shares of its width and height, from 0 to 1."""
WHOLE: Final[Part] = (0.0, 0.0, 1.0, 1.0)

_Scaled: TypeAlias = Callable[[int, int], int]
_Hold: TypeAlias = Callable[[int, int], None]
_Made = TypeVar("_Made")

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
# By orientation too: who exchanges the sides, and whose right or lower edge of the file becomes the left or upper one.
_SIDEWAYS, _RIGHT_TO_LEFT, _BOTTOM_TO_TOP = frozenset({5, 6, 7, 8}), frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8})
_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA", "RGBa"})
_EIGHT_BIT_MODES = _OPAQUE_MODES | _ALPHA_MODES
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})
_SCALED_MODES = _DEEP_MODES | {"F"}
_NO_DEEP_COLOUR = (
    "it has 16 bits per channel, of which only the high byte can be had here, and the values are to be scaled; save it "
    "with 8 bits per channel, or as grey"
)
_REFUSED_WIDER: Final = "refused: floating point, and integers outside 0..65535"
_SCALED_WIDER: Final = "as 16 bits; refused: values that are not finite"
_DECODED_FULL: Final = "full: at the file's own size"
_DECODED_REDUCED: Final = (
    "reduced: JPEG by libjpeg's scaled DCT at the smallest of 1/1, 1/2, 1/4, 1/8 that leaves both sides at least twice "
    "as long as they are resized to"
)
DECODE_RULES: Final = {"full": _DECODED_FULL, "reduced": _DECODED_REDUCED}
"""What a recipe says to the value of ``Preprocessing.decode``."""
DENOMINATORS: Final = (8, 4, 2)
"""Parts of its size at which a JPEG may be decoded, the smallest first."""

_PIECE_BYTES = 2**20
_HEAD_BYTES = 64
_SMALL_FILE_BYTES = 2**16


class _Rewinding:
    """The turn of reading somebody's file from its start: two threads may have been given the same one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: whoever held it when this process was forked is not here to give it back."""
        self.turn = threading.Lock()


_rewinding = _Rewinding()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rewinding.forget)

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


@dataclass(frozen=True)
class Examined:
    """What an image file turned out to be.

    Attributes:
        reason: in a few words, why it cannot be decoded; None if it can.
        values: the range of its values; None if it cannot be decoded.
    """

    reason: str | None
    values: ValueRange | None = None


def is_one_image(source: object) -> bool:
    """Tell whether something is meant as one image, not as several: see ``ImageSource``."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(source, kinds) or hasattr(source, "read")


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
    return _made(source, max_pixels, lambda image: np.array(_from_pillow(image, sixteen_bit)))


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
    return _made(source, max_pixels, _maker(source, preprocessing, max_pixels)).rgb


def smallest_reduced(denominator: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of the smallest upright JPEG that is decoded at one ``denominator``-th of its size."""
    squash = preprocessing.resize == "squash"
    width, height = (preprocessing.width, preprocessing.height) if squash else _short_sides(preprocessing)
    return 2 * denominator * width, 2 * denominator * height


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
        return Examined(None, _made_of(source, max_pixels, partial(_values, any_depth=any_depth)))
    except RefusedError as refused:
        return Examined(str(refused))


def _values(image: Image.Image, *, any_depth: bool) -> ValueRange:
    deep_colour = _is_deep_colour(image)
    if any_depth and deep_colour:
        raise RefusedError(_NO_DEEP_COLOUR)
    if any_depth and image.mode in _SCALED_MODES:
        _load(image)
        return _deep_values(image)
    rgb = _from_pillow(image)
    if image.mode in _DEEP_MODES:
        return _deep_values(image)
    bands = np.array(rgb.getextrema())
    kind: Kind = "16 bits in colour" if deep_colour else "8 bits"
    return ValueRange(kind, int(bands.min()), int(bands.max()))


@dataclass(frozen=True)
class Listing:
    """The files below a folder, sorted by the code points of their relative path.

    Attributes:
        images: those that are images.
        others: those that are not, by their names or, where a name says nothing, by their content.
    """

    images: list[Path]
    others: list[Path]


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files below a folder: ``list_folder(folder).images``."""
    return list_folder(folder).images


def list_folder(folder: str | os.PathLike[str]) -> Listing:
    """List the files below a folder, sorted: see ``walk_folder``.

    Raises:
        ImageError: the folder, or one below it, cannot be read.
    """
    listing = Listing([], [])
    for path, image in walk_folder(folder):
        (listing.images if image else listing.others).append(path)
    for paths in (listing.images, listing.others):
        paths.sort(key=lambda path: path.relative_to(folder).as_posix())
    return listing


def walk_folder(folder: str | os.PathLike[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the files below a folder, each with whether it is an image; of one folder at a time, sorted by name.

    Images are told by their suffix, and by their content where a name has none. What systems put there by themselves is
    left out (see ``image_files.left_by_a_system``). Links are followed; a folder that is reached twice is listed once.
    No more than the names in one folder are held.

    Raises:
        ImageError: the folder, or one below it, cannot be read.
    """
    seen = {os.path.realpath(folder)}
    for current, folders, files in os.walk(folder, followlinks=True, onerror=_raise_unlisted):
        entered = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(current, name))
            if not left_by_a_system(name) and real not in seen:
                seen.add(real)
                entered.append(name)
        folders[:] = entered
        for name in sorted(files):
            if not left_by_a_system(name):
                path = Path(current, name)
                yield path, is_image(path)


def is_image(path: Path) -> bool:
    """Tell whether a file is an image by its name or, where that says nothing, by its content."""
    by_name = image_by_name(path.name)
    if by_name is not None or not path.is_file():
        return bool(by_name)
    try:
        with _mapped_errors(), _pillow_warnings_ignored, open_regular(path) as stream:
            _opened(stream, MAX_PIXELS, lambda *_: None)
    except RefusedError as refused:  # what lacks a package or has too many pixels is an image, and reading it says so
        return isinstance(refused.__cause__, MissingDependencyError | Image.DecompressionBombError)
    return True


def _raise_unlisted(error: OSError) -> NoReturn:
    raise ImageError(f"the folder {printable(error.filename)} cannot be listed: {error.strerror}.") from error


def _unscaled(width: int, height: int) -> int:
    return width * height


def _made(
    source: ImageSource, max_pixels: int, make: Callable[[Image.Image], _Made], scaled: _Scaled = _unscaled
) -> _Made:
    """Return what ``make`` makes of an image, see ``_made_of``; the error names the source."""
    try:
        return _made_of(source, max_pixels, make, scaled)
    except RefusedError as refused:
        raise ImageError(f"{describe(source)} cannot be read as an image: {refused}.") from refused


def describe(source: object) -> str:
    """Return what a sentence calls an image: its path, or "the image given as bytes"."""
    if isinstance(source, str | os.PathLike):
        return printable(source)
    kinds: tuple[tuple[Any, str], ...] = (
        (bytes | bytearray | memoryview, "bytes"),
        (Image.Image, "a Pillow image"),
        (np.ndarray, "an array"),
    )
    kind = next((text for known, text in kinds if isinstance(source, known)), type(source).__name__)
    file_name = getattr(source, "filename", "") or getattr(source, "name", "")
    return f"the image given as {kind}" + (
        f" ({printable(file_name)})" if isinstance(file_name, str) and file_name else ""
    )


def _made_of(
    source: ImageSource, max_pixels: int, make: Callable[[Image.Image], _Made], scaled: _Scaled = _unscaled
) -> _Made:
    """Return what ``make`` makes of an image, whose share of the budget is held until it has.

    Args:
        source: see ``ImageSource``.
        max_pixels: see ``decode``.
        make: gets the image, which is not loaded yet.
        scaled: pixels that ``make`` makes of a picture of a width and height.
    """
    with BUDGET.share() as share:

        def hold(width: int, height: int) -> None:
            share.claim(max(width * height, scaled(width, height), scaled(height, width)), max_pixels)

        return _decoded(source, max_pixels, hold, make)


def _decoded(source: ImageSource, max_pixels: int, hold: _Hold, make: Callable[[Image.Image], _Made]) -> _Made:
    if isinstance(source, np.ndarray):
        return make(_of_array(source, hold))
    if not is_one_image(source):
        raise RefusedError(
            "give a path, the bytes of an image file, a binary file that is open, a Pillow image or a uint8 array"
        )
    with _mapped_errors(), _pillow_warnings_ignored:
        if isinstance(source, Image.Image):
            require_pixels(*source.size, max_pixels)
            hold(*source.size)
            return make(source)
        with _stream(source, max_pixels) as stream:
            return make(_opened(stream, max_pixels, hold))


def _stream(source: Any, max_pixels: int) -> BinaryIO:
    """Open what is a path, bytes or a file for reading from its start."""
    if source in (b"", ""):
        raise RefusedError("it is empty")
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(bytes(source))
    if not hasattr(source, "read"):
        return _in_memory_if_small(open_regular(source))
    if isinstance(source, io.BytesIO) and not source.closed:
        return io.BytesIO(source.getvalue())
    try:
        return io.BytesIO(_content(source, LARGEST_FILE_BYTES_PER_PIXEL * max_pixels))
    except (RefusedError, *_PILLOW_ERRORS):
        raise
    except Exception as error:  # somebody's object raises what it likes: a damaged archive, a connection that ends
        raise RefusedError(f"reading it failed ({first_line(error)})") from error


def _in_memory_if_small(file: BinaryIO) -> BinaryIO:
    """Read a small file at once: a header is looked at several times, and each time costs as much as all of it."""
    if os.fstat(file.fileno()).st_size > _SMALL_FILE_BYTES:
        return file
    with file:
        return io.BytesIO(file.read())


def _content(file: Any, largest: int) -> bytes:
    """Read somebody's open file, from its start where it has one, and leave it where it was."""
    if getattr(file, "closed", False):
        raise RefusedError("the file is closed")
    if not callable(getattr(file, "seekable", None)) or not file.seekable():
        return _pieces(file, largest)
    with _rewinding.turn:
        before = file.tell()
        try:
            file.seek(0)
            return _pieces(file, largest)
        finally:
            file.seek(before)


def _pieces(file: Any, largest: int) -> bytes:
    content = bytearray()
    while piece := file.read(_PIECE_BYTES):
        if not isinstance(piece, bytes | bytearray):
            raise RefusedError(
                f"its read() gives {type(piece).__name__}, and must give bytes: open files in the mode 'rb'"
            )
        content += piece
        if len(content) > largest:
            raise RefusedError(f"it has more than {largest} bytes")
    return bytes(content)


def _opened(stream: BinaryIO, max_pixels: int, hold: _Hold) -> Image.Image:
    """Open an image file, if it is small enough, without decoding it."""
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


def _load(image: Image.Image) -> None:
    if 0 in image.size:
        raise RefusedError(f"its size is {image.width} x {image.height}: it has no pixels")
    image.load()


def _from_pillow(image: Image.Image, sixteen_bit: str = HIGH_BYTE) -> Image.Image:
    rgb = _loaded_rgb(image, sixteen_bit)
    # After load(): Pillow turns TIFF images itself then, and PNG may carry EXIF behind the pixels.
    return _turned(rgb, _orientation(image))


def _loaded_rgb(image: Image.Image, sixteen_bit: str) -> Image.Image:
    if range_of(sixteen_bit) is not None and _is_deep_colour(image):
        raise RefusedError(_NO_DEEP_COLOUR)
    _load(image)
    return _opaque_rgb(image, sixteen_bit)


def _turned(rgb: Image.Image, orientation: int) -> Image.Image:
    transpose = _TRANSPOSES.get(orientation)
    return rgb if transpose is None else rgb.transpose(transpose)


@dataclass(frozen=True)
class _Picture:
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


def _maker(source: object, preprocessing: Preprocessing, max_pixels: int) -> Callable[[Image.Image], _Picture]:
    """Return what decodes an image as the preprocessing says; somebody's own Pillow image is not made smaller."""
    return partial(
        _picture, preprocessing=preprocessing, max_pixels=max_pixels, own=not isinstance(source, Image.Image)
    )


def _picture(image: Image.Image, preprocessing: Preprocessing, max_pixels: int, *, own: bool) -> _Picture:
    denominator = _denominator(image, preprocessing)
    file = None if denominator == 1 else image if own else _opened_again(image, max_pixels)
    if file is None or not _can_be_reduced(file):
        rgb = _from_pillow(image, preprocessing.sixteen_bit)
        return _Picture(rgb, rgb.size)
    # Of the image that was given: whoever opened it may have changed its EXIF since.
    orientation = _orientation(image)
    width, height = image.size
    # Pillow takes the largest of 8, 4, 2 that leaves at least the size it is told, which is this one then. The mode,
    # which it could change too, stays the file's.
    file.draft(None, (width // denominator, height // denominator))
    rgb = _turned(_loaded_rgb(file, preprocessing.sixteen_bit), orientation)
    full = _upright((width, height), orientation)
    across, down = full[0] / denominator, full[1] / denominator
    left = rgb.width - across if orientation in _RIGHT_TO_LEFT else 0.0
    top = rgb.height - down if orientation in _BOTTOM_TO_TOP else 0.0
    return _Picture(rgb, full, (left, top, left + across, top + down))


def _denominator(image: Image.Image, preprocessing: Preprocessing) -> int:
    """Return at which part of its size an image is to be decoded: 2, 4 or 8 of a large JPEG that is not decoded yet."""
    if not preprocessing.reduced or not isinstance(image, JpegImageFile) or not image.tile or image.decoderconfig:
        return 1
    width, height = _upright(image.size, _orientation(image))
    across, down = _scaled_size(width, height, preprocessing)
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


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in _SIDEWAYS else size


def _opened_again(image: Image.Image, max_pixels: int) -> Image.Image | None:
    """Open the file of somebody's Pillow image once more, for theirs would be a small picture from then on.

    None where that cannot be done, or another frame than the first is meant.
    """
    file = getattr(image, "fp", None)
    if file is None or image.tell() != 0:
        return None
    try:
        again = open_image(io.BytesIO(_content(file, LARGEST_FILE_BYTES_PER_PIXEL * max_pixels)))
    except (RefusedError, *_PILLOW_ERRORS):
        return None
    same = isinstance(again, JpegImageFile) and (again.size, again.mode) == (image.size, image.mode)
    return again if same else None


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")
    if isinstance(exif, bytes) and not exif_fits(exif):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _PILLOW_ERRORS:  # the pixels are good; a camera's damaged note about them is not worth losing them
        return 1
    return value if isinstance(value, int) else 1


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
    short = min(_short_sides(preprocessing))

    def scaled(width: int, height: int) -> int:
        across, down = _scaled_size(width, height, preprocessing)
        return across * down

    decoded = _maker(source, preprocessing, max_pixels)

    def resized(image: Image.Image) -> list[Image.Image]:
        picture = decoded(image)
        width, height = _scaled_size(*picture.size, preprocessing)
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

    return _made(source, max_pixels, resized, scaled)


def _box_of(part: Part, picture: _Picture, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Return which of the decoded pixels a part of the prepared image is made of, in fractions of pixels."""
    left, top, right, bottom = picture.box or (0.0, 0.0, *picture.rgb.size)
    width, height = _scaled_size(*picture.size, preprocessing)
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


def _short_sides(preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height that a crop scales to at least."""
    return _round(preprocessing.width / preprocessing.crop_fraction), _round(
        preprocessing.height / preprocessing.crop_fraction
    )


def _scaled_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of a picture before anything is cut off."""
    if preprocessing.resize == "squash" or 0 in (width, height):
        return preprocessing.width, preprocessing.height
    short = _short_sides(preprocessing)
    scale = max(short[0] / width, short[1] / height)
    return max(short[0], _round(width * scale)), max(short[1], _round(height * scale))


def _round(value: float) -> int:
    return int(value + 0.5)


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    """Turn whatever Pillow raises on bad input into the reason for a person."""
    try:
        yield
    except MissingDependencyError as error:
        raise RefusedError(str(error)) from error
    except _PILLOW_ERRORS as error:
        raise RefusedError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnidentifiedImageError):
        return f"it is in none of the formats {', '.join(READ)}, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return too_many_pixels("", 2 * (Image.MAX_IMAGE_PIXELS or 0))
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, io.UnsupportedOperation):
        return f"the file does not allow it ({error}): open files in the mode 'rb'"
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
        self._filter: Any = None  # an entry of warnings.filters
        self._lock = threading.Lock()
        self._inside = 0

    def forget(self) -> None:
        """Start anew: the threads that decoded when this process was forked are not here to leave."""
        self._lock = threading.Lock()
        self._inside = 0
        if self._filter is not None:
            warnings.filters = [entry for entry in warnings.filters if entry is not self._filter]

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._filter is None:
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._filter = warnings.filters[0]
            elif self._inside == 1 or not any(entry is self._filter for entry in warnings.filters):
                # As above, at a tenth of the time.
                warnings.filters = [self._filter, *warnings.filters]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                warnings.filters = [entry for entry in warnings.filters if entry is not self._filter]


_pillow_warnings_ignored = _PillowWarningsIgnored()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pillow_warnings_ignored.forget)
