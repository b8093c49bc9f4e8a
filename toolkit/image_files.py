"""Which files are images by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

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
