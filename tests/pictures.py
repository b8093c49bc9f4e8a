"""Small pictures as arrays and as files, and what is done to them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from toolkit.preprocess import DECODE_RULES, Preprocessing

WHITE = 255
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""EXIF orientation to what makes an upright array of one as it lies in the file."""


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(height: int = 5, width: int = 7, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(
        0, 256, (height, width, channels) if channels else (height, width), dtype=np.uint8
    )


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, for pixel types that Pillow cannot save."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    transparency = png_chunk(b"tRNS", extra) if extra else b""
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + transparency + pixels + png_chunk(b"IEND", b"")


def squash(size: int = 4, **changes: object) -> Preprocessing:
    return Preprocessing.model_validate(
        {"height": size, "width": size, "resize": "squash", "interpolation": "bilinear", **changes}
    )


def reduced(size: int = 4, **changes: object) -> Preprocessing:
    return squash(size, decode=DECODE_RULES["reduced"], **changes)


def full(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing.model_copy(update={"decode": DECODE_RULES["full"]})


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + WHITE * (1 - share)


def ramps(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is the larger of the two: a shift or a turn shows anywhere."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)
    down, across = 255 * down / (height - 1), 255 * across / (width - 1)
    return np.stack([across, down, np.maximum(across, down)], axis=2).round().astype(np.uint8)


def jpeg(pixels: np.ndarray, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), "JPEG", **{"quality": 95, "subsampling": 0, "exif": exif, **options})


def furthest(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


def small_files() -> dict[str, bytes]:
    image = Image.fromarray(noise(12, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return {
        "png": encoded(image, "PNG", exif=exif),
        "palette-png": encoded(image.quantize(16), "PNG", transparency=3),
        "apng": encoded(image, "PNG", save_all=True, append_images=[Image.fromarray(noise(12, 10, seed=1))]),
        "jpeg": encoded(image, "JPEG", exif=exif),
        "progressive-jpeg": encoded(image, "JPEG", progressive=True),
        "gif": encoded(image, "GIF", save_all=True, append_images=[Image.fromarray(noise(12, 10, seed=1))]),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF", exif=exif),
        "lzw-tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "webp": encoded(image, "WEBP", exif=exif),
        "ppm": encoded(image, "PPM"),
        "mpo": encoded(image, "MPO", save_all=True, append_images=[image]),
    }
