"""What Pillow raises and warns of on bad input, and what a person is told of it."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image, UnidentifiedImageError

from toolkit.decoding_limits import RefusedError, too_many_pixels
from toolkit.errors import MissingDependencyError
from toolkit.preprocess.file_formats import READ

PILLOW_ERRORS = (
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
"""What Pillow's readers let through on damaged input. Warnings are here for callers that turn them into errors."""


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn whatever Pillow raises on bad input into the reason for a person.

    Raises:
        RefusedError: in the place of one of ``PILLOW_ERRORS``, or of a missing package.
    """
    try:
        yield
    except MissingDependencyError as error:
        raise RefusedError(str(error)) from error
    except PILLOW_ERRORS as error:
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


pillow_warnings_ignored = _PillowWarningsIgnored()
"""Of this process; entered around everything that Pillow opens or decodes."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pillow_warnings_ignored.forget)
