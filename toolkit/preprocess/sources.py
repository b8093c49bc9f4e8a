"""What is taken as one image, what a sentence calls it, and the bytes of what is not a picture yet."""

from __future__ import annotations

import io
import os
import threading
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.decoding_limits import LARGEST_FILE_BYTES_PER_PIXEL, RefusedError
from toolkit.errors import first_line
from toolkit.files import open_regular
from toolkit.preprocess.pillow_errors import PILLOW_ERRORS
from toolkit.printable import printable

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
)
"""A path; the bytes of an image file, or a binary file that holds them (read from its start if it can be); a Pillow
image; or a uint8 array ``[h, w]``, ``[h, w, 1]``, ``[h, w, 3]`` or ``[h, w, 4]``."""

_PIECE_BYTES = 2**20
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


def is_one_image(source: object) -> bool:
    """Tell whether something is meant as one image, not as several: see ``ImageSource``."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(source, kinds) or hasattr(source, "read")


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


def stream_of(source: Any, max_pixels: int) -> BinaryIO:
    """Open what is a path, bytes or a file for reading from its start.

    Raises:
        RefusedError: there is nothing in it, or somebody's file cannot be read.
        OSError: as the system raises it.
    """
    if source in (b"", ""):
        raise RefusedError("it is empty")
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(bytes(source))
    if not hasattr(source, "read"):
        return _in_memory_if_small(open_regular(source))
    if isinstance(source, io.BytesIO) and not source.closed:
        return io.BytesIO(source.getvalue())
    try:
        return io.BytesIO(content_of(source, LARGEST_FILE_BYTES_PER_PIXEL * max_pixels))
    except (RefusedError, *PILLOW_ERRORS):
        raise
    except Exception as error:  # somebody's object raises what it likes: a damaged archive, a connection that ends
        raise RefusedError(f"reading it failed ({first_line(error)})") from error


def content_of(file: Any, largest: int) -> bytes:
    """Read somebody's open file, from its start where it has one, and leave it where it was.

    Raises:
        RefusedError: it is closed, gives no bytes, or has more of them than ``largest``.
        Exception: whatever it raises.
    """
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


def _in_memory_if_small(file: BinaryIO) -> BinaryIO:
    """Read a small file at once: a header is looked at several times, and each time costs as much as all of it."""
    if os.fstat(file.fileno()).st_size > _SMALL_FILE_BYTES:
        return file
    with file:
        return io.BytesIO(file.read())


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
