"""What an image may cost: a limit in pixels that is looked at before decoding, and one budget for all threads.

A few hundred bytes can promise a picture of gigabytes. Most of Pillow's readers say how large it is before they do
anything; what the others would allocate while they open a file is read here from its header.
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from typing import BinaryIO, Self

MAX_PIXELS = 100_000_000
"""Of one image by default, and then of all images that the threads of a process decode at the same time."""
LARGEST_FILE_BYTES_PER_PIXEL = 16
"""An image file may have this many bytes for every pixel of the limit: some readers take it into memory whole."""

_TIFF = {b"II*\0": "<", b"MM\0*": ">", b"MM*\0": ">", b"II\0*": "<", b"II+\0": "<", b"MM\0+": ">"}
"""Start of a file to its byte order; the last two are BigTIFF. Pillow reads all of them."""
_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by type."""
_INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_WIDTH, _HEIGHT, _STRIPS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 256, 257, 273, 322, 323, 324
_MOST_TAGS = 10_000
_TAGS_SLACK_BYTES = 2**24
"""Values of a damaged directory may overlap by this much; Pillow leaves out what it cannot read."""
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM = b"\xff\x4f\xff\x51"
_PIECES = 65_536
"""Strips or tiles that any TIFF may have; more of them only where it has many pixels."""
_MOST_SCANS = 100
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Of a JPEG, but for those that stand inside coded data and those without a segment."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ANY_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_WITHOUT_SEGMENT = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DCT_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})


class RefusedError(Exception):
    """Why a source is not decoded, without its name."""


class TooLargeError(RefusedError):
    """It has more pixels, or bytes, than the limit allows."""


def require_pixels(width: int, height: int, limit: int) -> None:
    """Refuse a picture that has more pixels than the limit.

    Raises:
        TooLargeError: with its size, and how to raise the limit.
    """
    if width * height > limit:
        raise TooLargeError(too_many_pixels(f"{width} x {height} pixels, ", limit))


def too_many_pixels(how_many: str, limit: int) -> str:
    """Say that a picture is too large: ``how_many`` is "" or its size, with a comma."""
    return (
        f"it has {how_many}more than {limit} pixels in all; a larger limit is given with --max-pixels, in Python with "
        "max_pixels"
    )


def promised_size(stream: BinaryIO, limit: int) -> tuple[int, int]:
    """Return the size that a header promises, where opening the file already takes memory for it; 0 x 0 elsewhere.

    Args:
        stream: the file; its position is lost.
        limit: pixels that are allowed.

    Raises:
        RefusedError: it promises more, or asks for other things out of all proportion, or is damaged.
    """
    size = stream.seek(0, os.SEEK_END)
    if size > LARGEST_FILE_BYTES_PER_PIXEL * limit:
        raise TooLargeError(
            f"the file has {size} bytes, more than {LARGEST_FILE_BYTES_PER_PIXEL} for each of the {limit} pixels that "
            "are decoded; a larger limit is given with --max-pixels, in Python with max_pixels"
        )
    stream.seek(0)
    head = stream.read(30)
    try:
        if head[:4] in _TIFF:
            width, height = _tiff(stream, head, size)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            width, height = _webp(head)
        elif head.startswith((_JP2, _CODESTREAM)):
            width, height = _jpeg2000(stream, head, size)
        else:
            return 0, 0
    except struct.error as error:
        raise RefusedError("it is damaged (its header ends early)") from error
    require_pixels(width, height, limit)
    return width, height


def _webp(head: bytes) -> tuple[int, int]:
    """Read the canvas, for which the decoder takes memory twice when it is made."""
    if head[12:16] == b"VP8X":
        width, height = struct.unpack("<II", head[24:27] + b"\0" + head[27:30] + b"\0")
        return width + 1, height + 1
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg2000(stream: BinaryIO, head: bytes, size: int) -> tuple[int, int]:
    """Read the code stream's own size: OpenJPEG prepares every tile of it, in every component, before it decodes."""
    at = 0 if head.startswith(_CODESTREAM) else _code_stream(stream, size)
    stream.seek(at)
    start = stream.read(42)
    if not start.startswith(_CODESTREAM):
        raise RefusedError("it is damaged (its code stream does not start with its size)")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack(
        ">8IH", start[8:42]
    )
    width, height = max(0, right - left), max(0, bottom - top)
    if components > 4:
        raise RefusedError(f"it has {components} components, and pictures have at most 4")
    across, down = -(-(right - tile_left) // max(1, tile_width)), -(-(bottom - tile_top) // max(1, tile_height))
    if across * down > 64 + width * height // 1024:
        raise RefusedError(f"it is cut into {across * down} tiles, too many for {width} x {height} pixels")
    return width, height


def _code_stream(stream: BinaryIO, size: int) -> int:
    """Return where the code stream of a JP2 file starts."""
    at = 0
    while at < size:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        header = 8
        if length == 1:
            (length,), header = struct.unpack(">Q", stream.read(8)), 16
        if kind == b"jp2c":
            return at + header
        if length < header:
            break
        at += length
    raise RefusedError("it is damaged (it holds no code stream)")


def _tiff(stream: BinaryIO, head: bytes, size: int) -> tuple[int, int]:
    """Read the size of the first page, and hold against the file what its directory says is there."""
    order, big = _TIFF[head[:4]], b"+" in head[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    counter, entry, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    stream.seek(at)
    (tags,) = struct.unpack(order + counter, stream.read(8 if big else 2))
    step = 20 if big else 12
    directory = stream.read(min(tags, _MOST_TAGS) * step)
    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    elsewhere = 0
    for start in range(0, len(directory) - step + 1, step):
        tag, kind, count = struct.unpack_from(order + entry, directory, start)
        width = _TIFF_TYPES.get(kind, 0)
        elsewhere += count * width if count * width > room else 0
        counts[tag] = max(count, counts.get(tag, 0))
        if count == 1 and width in _INTEGERS and width <= room:
            (value,) = struct.unpack_from(order + _INTEGERS[width], directory, start + step - room)
            values[tag] = max(value, values.get(tag, 0))
    if tags > _MOST_TAGS or elsewhere > max(size, _TAGS_SLACK_BYTES):
        raise RefusedError("it is damaged (its directory describes more than the file holds)")
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    pieces = max(counts.get(_STRIPS, 0), counts.get(_TILES, 0))
    if pieces > _PIECES + width * height // 256:
        raise RefusedError(f"it is cut into {pieces} pieces, too many for {width} x {height} pixels")
    tile_width, tile_height = values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)
    return (tile_width, tile_height) if tile_width * tile_height > width * height else (width, height)


def exif_fits(exif: bytes) -> bool:
    """Tell whether the directory of EXIF data describes no more than there is; what is read of it is then bounded."""
    content = exif
    while content.startswith(b"Exif\0\0"):
        content = content[6:]
    try:
        _tiff(io.BytesIO(content), content[:16], len(content))
    except (RefusedError, KeyError, struct.error):
        return False
    return True


def require_few_scans(stream: BinaryIO) -> None:
    """Refuse a progressive JPEG with more scans than encoders write: each costs a pass over the whole picture.

    Args:
        stream: the file; its position is lost.

    Raises:
        RefusedError: it has more than a hundred.
    """
    stream.seek(0)
    content = stream.read()
    scans, at = 0, 2
    while (found := _MARKER.search(content, at)) and content[found.start() + 1] != _END_OF_IMAGE:
        scans += content[found.start() + 1] == _START_OF_SCAN
        if scans > _MOST_SCANS:
            raise RefusedError(
                f"it has more than {_MOST_SCANS} scans, which may be an attack on time; save it as a JPEG anew"
            )
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")


def is_coded_by_dct(stream: BinaryIO) -> bool:
    """Tell whether a JPEG is coded by the DCT, whose blocks can be decoded to fewer pixels.

    Of another one, a lossless one above all, Pillow makes an error at best when it is told to decode it at a part of
    its size, for libjpeg has no part to give. Markers are read as libjpeg reads them.

    Args:
        stream: the file; its position is lost.
    """
    stream.seek(0)
    content, at = stream.read(), 2
    while (found := _ANY_MARKER.search(content, at)) is not None:
        marker, at = content[found.start() + 1], found.end()
        if marker in _FRAMES or marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return marker in _DCT_FRAMES
        if marker not in _WITHOUT_SEGMENT:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    return False


class PixelBudget:
    """Shares out the pixels that the threads of a process may decode at the same time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: a forked process has none of the threads that held something."""
        self._turn = threading.Lock()
        self._room = threading.Condition()
        self._taken = 0

    def share(self) -> PixelShare:
        """Return what holds pixels of this budget until its block ends; none before it claims some."""
        return PixelShare(self)

    def take(self, pixels: int, limit: int) -> None:
        """Wait until ``pixels`` and those that others hold are at most ``limit``, and take them.

        An image that is above the limit by itself waits until it is alone. Who waits is next, so that small images do
        not keep a large one waiting for ever.
        """
        with self._turn, self._room:
            self._room.wait_for(lambda: not self._taken or self._taken + pixels <= limit)
            self._taken += pixels

    def give_back(self, pixels: int) -> None:
        """Give back what was taken."""
        with self._room:
            self._taken = max(0, self._taken - pixels)
            self._room.notify_all()


class PixelShare:
    """The part of a budget that one image has, while its block lasts."""

    def __init__(self, budget: PixelBudget) -> None:
        self._budget = budget
        self._held = 0

    def claim(self, pixels: int, limit: int) -> None:
        """Hold so many pixels, see ``PixelBudget.take``, in the place of those that are held."""
        self._give_back()  # first of all: nobody waits while others wait for him
        self._budget.take(pixels, limit)
        self._held = pixels

    def _give_back(self) -> None:
        if self._held:
            self._budget.give_back(self._held)
            self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()


BUDGET = PixelBudget()
"""Of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.forget)
