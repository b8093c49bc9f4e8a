"""Images at their own size: their pixels, their values, or the reason why there are none."""

from __future__ import annotations

import struct

import numpy as np
from pictures import encoded, noise, png
from PIL import Image

from toolkit.pixel_depth import ValueRange
from toolkit.preprocess import Examined, decode, examine, fault


class TestDecode:
    def test_rgb_is_not_copied(self) -> None:
        pixels = noise()
        assert decode(pixels) is pixels

    def test_strided_rgb(self) -> None:
        decoded = decode(noise()[:, ::-1])
        assert decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, noise()[:, ::-1])


def test_fault_tells_why_or_none() -> None:
    assert fault(encoded(Image.fromarray(noise()), "PNG")) is None
    assert "none of the formats" in (fault(b"text") or "")
    assert "Git LFS" in (fault(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n") or "")
    assert "a web page" in (fault(b"<!DOCTYPE html><title>429</title>") or "")


class TestExamine:
    def test_values_of_each_kind(self) -> None:
        deep = np.array([[7, 4000]], np.uint16)
        for source, expected in (
            (np.array([[[3, 9, 200]]], np.uint8), ValueRange("8 bits", 3, 200)),
            (encoded(Image.fromarray(deep), "PNG"), ValueRange("16 bits", 7, 4000)),
            (Image.fromarray(deep.astype(np.int32)), ValueRange("16 bits", 7, 4000)),
            (png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 256, 512, 1024)), ValueRange("16 bits in colour", 1, 4)),
        ):
            assert examine(source) == Examined(None, expected)
        assert examine(b"text").values is None

    def test_any_depth(self) -> None:
        wide = Image.fromarray(np.array([[-5, 70000]], np.int32))
        assert "outside 0..65535" in (examine(wide).reason or "")
        assert examine(wide, any_depth=True) == Examined(None, ValueRange("32 bits", -5, 70000))
        floats = Image.fromarray(np.array([[0.5, 0.75]], np.float32))
        assert "pixel type F" in (examine(floats).reason or "")
        assert examine(floats, any_depth=True) == Examined(None, ValueRange("32 bits", 0.5, 0.75))
        colour = png(1, 1, 16, 2, bytes(7))
        assert examine(colour).reason is None
        assert "only the high byte" in (examine(colour, any_depth=True).reason or "")
