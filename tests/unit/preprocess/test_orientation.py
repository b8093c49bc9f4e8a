"""EXIF's orientation is applied once, and EXIF that cannot be read costs nothing."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import UPRIGHT, encoded, noise
from PIL import Image

from toolkit.preprocess import decode


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_is_applied_once(orientation: int, format: str) -> None:
    pixels = noise()
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(
        encoded(Image.fromarray(pixels), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    )
    np.testing.assert_array_equal(decoded, UPRIGHT[orientation](pixels))


def test_jpeg_and_pillow_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(noise(8, 16)), "JPEG", exif=exif)
    assert decode(content).shape == (16, 8, 3)
    np.testing.assert_array_equal(decode(Image.open(io.BytesIO(content))), decode(content))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01"])
def test_unreadable_exif_is_ignored(exif: bytes) -> None:
    pixels = noise()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG", exif=exif)), pixels)


def test_exif_that_would_be_read_a_thousand_times_is_ignored() -> None:
    directory = struct.pack("<H", 60) + b"".join(struct.pack("<HHII", 700 + tag, 7, 10**6, 8) for tag in range(60))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory + bytes(4)
    assert decode(encoded(Image.fromarray(noise()), "PNG", exif=exif)).shape == (5, 7, 3)
