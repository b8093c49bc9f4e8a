"""Which files are images by their names, and how one is opened: the formats of Pillow, and what needs more than it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from PIL import Image, features

from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint, pip_install
from toolkit.errors import MissingDependencyError

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that every Pillow reads. Others are rare as photographs, and some start another program
(EPS)."""

READ = (*FORMATS, "AVIF", "HEIC")
"""What ``open_image`` opens, as an error lists it."""

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
_HEAD_BYTES = 256
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


def open_image(stream: BinaryIO) -> Image.Image:
    """Open an image file by its content, whatever it is called; pixels are decoded when they are asked for.

    Raises:
        MissingDependencyError: it is an AVIF or HEIC file and what reads it is not installed; the message is the end of
            a sentence.
        Exception: whatever Pillow raises on bad input.
    """
    brands = _brands(stream.read(_HEAD_BYTES))
    stream.seek(0)
    if brands & {"avif", "avis"}:
        return _open_avif(stream)
    if brands & {"heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"}:
        return _open_heic(stream)
    return Image.open(stream, formats=FORMATS)


def _brands(head: bytes) -> set[str]:
    """Return what an ISO media file says that it can be read as (ISO/IEC 14496-12, 4.3); nothing for other files."""
    if head[4:8] != b"ftyp":
        return set()
    box = head[: max(16, int.from_bytes(head[:4], "big"))]
    return {box[start : start + 4].decode("latin-1") for start in (8, *range(16, len(box) - 3, 4))}


def _open_avif(stream: BinaryIO) -> Image.Image:
    if "avif" not in features.modules or not features.check_module("avif"):
        raise MissingDependencyError(
            f"it is an AVIF image, which needs Pillow 11.3 or later: {pip_install('--upgrade pillow')}"
        )
    return Image.open(stream, formats=("AVIF",))


def _open_heic(stream: BinaryIO) -> Image.Image:
    heif = import_optional("pillow_heif", f"it is a HEIC image, which needs pillow-heif: {install_hint('heif')}")
    # The class itself: registering it would change what every Image.open of the process reads.
    image: Image.Image = heif.HeifImageFile(stream)
    return image
