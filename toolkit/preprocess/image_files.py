"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image

from toolkit.decoding_limits import MAX_PIXELS, RefusedError
from toolkit.errors import ImageError, MissingDependencyError
from toolkit.files import open_regular
from toolkit.image_files import image_by_name, left_by_a_system
from toolkit.preprocess.opening import opened
from toolkit.preprocess.pillow_errors import mapped_errors, pillow_warnings_ignored
from toolkit.printable import printable


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
        with mapped_errors(), pillow_warnings_ignored, open_regular(path) as stream:
            opened(stream, MAX_PIXELS, lambda *_: None)
    except RefusedError as refused:  # what lacks a package or has too many pixels is an image, and reading it says so
        return isinstance(refused.__cause__, MissingDependencyError | Image.DecompressionBombError)
    return True


def _raise_unlisted(error: OSError) -> NoReturn:
    raise ImageError(f"the folder {printable(error.filename)} cannot be listed: {error.strerror}.") from error
