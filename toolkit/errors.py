"""Everything toolkit raises on purpose.

::

    ToolkitError                 what was given, what is valid, what to do next; exit code 2
    ├── RecipeError              a recipe, a field of it or a flag that overrides one
    ├── DataError                the labelled images as a whole: missing, empty, inconsistent
    │   └── UnreadableImagesError    files that cannot be decoded, each with its reason
    ├── ImageError               one image that cannot become pixels
    │   └── PredictionError          one image for which the model computes no finite numbers
    ├── DownloadError            a file that could not be fetched, and where to put it by hand
    ├── BackboneError            an unknown model, weights that do not fit, a block that does not exist
    │   └── ImageSizeError           an image size that a network cannot take, and sizes that it can
    ├── TrainingError            training that cannot go on (the loss is not finite)
    ├── RunError                 a run folder that is missing, incomplete or from other data
    ├── BundleError              a bundle that is missing or malformed
    │   ├── IntegrityError           a file of a bundle that is not the one the manifest describes
    │   ├── UntrustedCodeError       a file that can carry code, in a bundle that nobody has vouched for
    │   └── SignatureError           a signature that is missing, stale or of another key, or a key that cannot be used
    ├── ExportError              an artifact that could not be made, or is not what was asked for
    ├── DeviceError              a device that this machine or this build cannot run on
    ├── TrackerError             a tracker that there is not, or that cannot go on with a run
    ├── RemoteError              a place that a bundle cannot be pushed to, or pulled from
    ├── MissingDependencyError   an optional package that this action needs, missing or broken
    ├── FileWriteError           a file or folder that cannot be written
    └── OutputError              standard output that cannot be written

A failed gate (parity, accuracy) is not an exception: it is a record with a verdict, and exit code 1. Any other
exception is a bug.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from typing import Any

from toolkit.printable import printable

MOST_THREADS = 1024
"""Of one process; engines start as many as they are told to, and a hundred thousand keep a machine busy for minutes."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What some libraries put into their messages for a terminal."""


class ToolkitError(Exception):
    """Something the caller can put right. The message is one clear sentence or a short list.

    It can be pickled, whatever a subclass is made from: an error in a worker process is raised again in its parent.
    """

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), self.__dict__


class RecipeError(ToolkitError):
    """A recipe, a field of it, or a flag that overrides one is not valid."""


class DataError(ToolkitError):
    """The labelled images, taken together, cannot be used."""


class UnreadableImagesError(DataError):
    """Some image files cannot be decoded.

    Attributes:
        failures: pairs of file name and reason, in the order of the listing.
    """

    def __init__(self, message: str, failures: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class ImageError(ToolkitError):
    """One image cannot be turned into pixels."""


class PredictionError(ImageError):
    """The model computes not-a-number or infinity of one image."""


class DownloadError(ToolkitError):
    """A file could not be fetched or does not have the expected digest."""


class BackboneError(ToolkitError):
    """A backbone, its weights or a part of it that was named does not exist or does not fit."""


class ImageSizeError(BackboneError):
    """A network cannot take square images of this side.

    Attributes:
        sizes: the nearest sides that it takes, in pixels, ascending.
    """

    def __init__(self, message: str, sizes: Sequence[int]) -> None:
        super().__init__(message)
        self.sizes = tuple(sorted(sizes))


class TrainingError(ToolkitError):
    """Training cannot go on."""


class RunError(ToolkitError):
    """A run folder is missing, incomplete, or belongs to other data."""


class BundleError(ToolkitError):
    """A bundle is missing or malformed."""


class IntegrityError(BundleError):
    """A file in a bundle is not the one that its manifest describes."""


class UntrustedCodeError(BundleError):
    """An artifact can carry code, and its bundle is neither this user's own, nor checked by a key, nor allowed to."""


class SignatureError(BundleError):
    """A bundle is not signed by the key that was asked for, or the key cannot be used."""


class ExportError(ToolkitError):
    """An artifact could not be made, or the file is not what was asked for."""


class DeviceError(ToolkitError):
    """A device was asked for that cannot be used here."""


class TrackerError(ToolkitError):
    """A tracker of that name does not exist, or cannot go on with a run."""


class RemoteError(ToolkitError):
    """A bundle cannot be pushed to a URL, or pulled from it."""


class MissingDependencyError(ToolkitError):
    """An optional package is needed and not installed, or installed and broken."""


class FileWriteError(ToolkitError):
    """A file or folder cannot be written."""


class OutputError(ToolkitError):
    """Standard output cannot be written."""


def _remade(kind: type[ToolkitError], arguments: tuple[Any, ...]) -> ToolkitError:
    return kind.__new__(kind, *arguments)


def first_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message, to quote another library inside one sentence.

    The message may quote a stranger's file in turn.
    """
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {printable(lines[0])}" if lines else type(error).__name__


def is_count(value: Any) -> bool:
    """Tell whether a value is a whole number of at least 1, of Python's or another library's."""
    try:
        return not isinstance(value, bool) and operator.index(value) >= 1
    except TypeError:
        return False


def require_count(name: str, value: Any, most: int | None = None) -> int:
    """Return a number of something as an int.

    Args:
        name: of the argument, for the message.
        value: what was given for it.
        most: the largest that is taken; None for any.

    Raises:
        ToolkitError: it is no whole number, is below 1, or above the largest.
    """
    if most is not None and not (is_count(value) and operator.index(value) <= most):
        raise ToolkitError(f"{name} is {value!r}: give a whole number from 1 to {most}.")
    if not is_count(value):
        raise ToolkitError(f"{name} is {value!r}: give a whole number of 1 or more.")
    return operator.index(value)


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: of a text like "no" Python would make True.

    Raises:
        ToolkitError: naming the argument.
    """
    if not isinstance(value, bool):
        raise ToolkitError(f"{name} is {value!r}: give True or False.")


def raise_interruption(error: BaseException) -> None:
    """Raise KeyboardInterrupt if that is what an error comes from.

    A C extension that is interrupted while it initialises itself raises an ImportError from it, or only names it.
    """
    for cause in _causes(error):
        if isinstance(cause, KeyboardInterrupt) or (
            isinstance(cause, ImportError) and str(cause).startswith(KeyboardInterrupt.__name__)
        ):
            raise KeyboardInterrupt from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__]
