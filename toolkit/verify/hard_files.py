"""Image files that are decoded wrongly by many programs, made in memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image


def hard_files() -> dict[str, bytes]:
    """Return files by a name that says what is hard about them. The same bytes on every call."""
    colour = _picture(37, 53)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    half_clear = np.dstack([colour, np.linspace(0, 255, 37 * 53).reshape(37, 53).astype(np.uint8)])
    palette = Image.fromarray(colour).quantize(16)
    deep = (np.arange(37 * 53).reshape(37, 53) * 33 % 65536).astype(np.uint16)
    return {
        "exif-orientation.jpg": _encode(Image.fromarray(colour), "JPEG", exif=turned, quality=90),
        "exif-orientation.png": _encode(Image.fromarray(colour), "PNG", exif=turned),
        "progressive.jpg": _encode(Image.fromarray(colour), "JPEG", progressive=True, quality=75),
        "chroma-subsampled.jpg": _encode(Image.fromarray(colour), "JPEG", subsampling=2, quality=60),
        "cmyk.jpg": _encode(Image.fromarray(colour).convert("CMYK"), "JPEG", quality=90),
        "grey.png": _encode(Image.fromarray(colour).convert("L"), "PNG"),
        "one-bit.png": _encode(Image.fromarray(colour).convert("1"), "PNG"),
        "sixteen-bit-grey.png": _encode(Image.fromarray(deep), "PNG"),
        "twelve-bit-grey.tif": _encode(Image.fromarray((deep >> 4).astype(">u2")), "TIFF"),
        "alpha.png": _encode(Image.fromarray(half_clear), "PNG"),
        "grey-alpha.png": _encode(Image.fromarray(half_clear).convert("LA"), "PNG"),
        "palette.png": _encode(palette, "PNG"),
        "palette-alpha.png": _encode(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "animation.gif": _encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        "one-pixel.png": _encode(Image.fromarray(colour[:1, :1]), "PNG"),
        "wide.png": _encode(Image.fromarray(_picture(2, 150)), "PNG"),
        "tall.png": _encode(Image.fromarray(_picture(150, 2)), "PNG"),
    }


def _picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return smooth colours with noise on top, uint8 ``[h, w, 3]``: edges, flat parts and fine detail."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = np.stack([np.sin(down / 5), np.cos(across / 7), np.sin((down + across) / 11)], axis=2)
    noise = np.random.default_rng(0).normal(0, 20, waves.shape)
    return np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)


def _encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()
