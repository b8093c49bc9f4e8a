"""Everything toolkit raises on purpose.

::

    ToolkitError                 what was given, what is valid, what to do next; exit code 2
    ├── RecipeError              a recipe, a field of it or a flag that overrides one
    ├── DataError                the labelled images as a whole: missing, empty, inconsistent
    │   └── UnreadableImagesError    files that cannot be decoded, each with its reason
    ├── ImageError               one image that cannot become pixels
    ├── DownloadError            a file that could not be fetched, and where to put it by hand
    ├── BackboneError            an unknown model, weights that do not fit, a block that does not exist
    │   └── ImageSizeError           an image size that a network cannot take, and sizes that it can
    ├── TrainingError            training that cannot go on (the loss is not finite)
    ├── RunError                 a run folder that is missing, incomplete or from other data
    ├── BundleError              a bundle that is missing or malformed
    │   ├── IntegrityError           a file of a bundle that is not the one the manifest describes
    │   └── SignatureError           a signature that is missing, stale or of another key, or a key that cannot be used
    ├── ExportError              an artifact that could not be made, or is not what was asked for
    ├── DeviceError              a device that this machine or this build cannot run on
    ├── MissingDependencyError   an optional package that this action needs
    └── FileWriteError           a file or folder that cannot be written

A failed gate (parity, accuracy) is not an exception: it is a record with a verdict, and exit code 1. Any other
exception is a bug.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What some libraries put into their messages for a terminal."""


class ToolkitError(Exception):
    """Something the caller can put right. The message is one clear sentence or a short list."""

    exit_code = 2


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


class SignatureError(BundleError):
    """A bundle is not signed by the key that was asked for, or the key cannot be used."""


class ExportError(ToolkitError):
    """An artifact could not be made, or the file is not what was asked for."""


class DeviceError(ToolkitError):
    """A device was asked for that cannot be used here."""


class MissingDependencyError(ToolkitError):
    """An optional package is needed and not installed."""


class FileWriteError(ToolkitError):
    """A file or folder cannot be written."""


def first_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message, to quote another library inside one sentence."""
    text = _COLOURS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
