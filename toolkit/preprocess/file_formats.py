"""Which formats of image files are read, and what opens one: Pillow, and what needs more than it."""

from __future__ import annotations

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

_HEAD_BYTES = 256


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
