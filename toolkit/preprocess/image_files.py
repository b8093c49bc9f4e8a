"""Which files are images, by their names or their content, and which of them lie below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image

from toolkit.decoding_limits import MAX_PIXELS, RefusedError
from toolkit.errors import ImageError, MissingDependencyError
from toolkit.files import open_regular
from toolkit.preprocess.opening import opened
from toolkit.preprocess.pillow_errors import mapped_errors, pillow_warnings_ignored
from toolkit.printable import printable

IMAGE_SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".hif",
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

_LEFT_BY_SYSTEMS = frozenset(
    # What macOS, Windows and network drives put into folders by themselves; nobody misses it.
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
    | {"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
_SHOWN_SUFFIXES = 5


@dataclass(frozen=True)
class Listing:
    """The files below a folder, sorted by the code points of their relative path.

    Attributes:
        images: those that are images.
        others: those that are not, by their names or, where a name says nothing, by their content.
    """

    images: list[Path]
    others: list[Path]


def left_by_a_system(name: str) -> bool:
    """Tell whether a file or folder is none of the user's: a name that starts with a dot, ``Thumbs.db``, ``__MACOSX``.

    ``._cat.jpg``, which macOS writes beside ``cat.jpg`` on foreign disks, is among them.
    """
    return name.startswith(".") or name.casefold() in _LEFT_BY_SYSTEMS


def image_by_name(name: str) -> bool | None:
    """Tell whether a file is an image by the suffix of its name; None where the suffix says nothing.

    That is a name without one, or one that ends in digits (``2019.07.14``): there the content decides.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    return None if suffix.lstrip(".").isdigit() or suffix in ("", ".") else False


def not_images(folder: str, names: Iterable[str]) -> str | None:
    """Say in one sentence which files of a folder are left out because of their names; None if there are none.

    Args:
        folder: as a person would write it.
        names: of the files that are no images.
    """
    suffixes = Counter(os.path.splitext(name)[1] or "no suffix" for name in names)
    if not suffixes:
        return None
    total = suffixes.total()
    kinds = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    shown = [
        f"{suffix if suffix.isprintable() else ascii(suffix)[1:-1]} ({count})"
        for suffix, count in kinds[:_SHOWN_SUFFIXES]
    ]
    if len(kinds) > _SHOWN_SUFFIXES:
        shown.append(f"others ({sum(count for _, count in kinds[_SHOWN_SUFFIXES:])})")
    if total == 1:
        return f"1 file in {folder} is no image by its name: {shown[0]}"
    return f"{total} files in {folder} are no images by their name: {', '.join(shown)}"


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
    left out (see ``left_by_a_system``). Links are followed; a folder that is reached twice is listed once. No more than
    the names in one folder are held.

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
