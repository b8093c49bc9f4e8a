"""The image path.

Every kind of picture becomes the RGB pixels that the manifest promises, and nothing but ImageError comes out of bad
input.
"""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fuzzing import FUZZ
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from pydantic import ValidationError

from toolkit import preprocess
from toolkit.errors import ImageError
from toolkit.pixel_depth import ValueRange, linear_rule
from toolkit.preprocess import (
    WHOLE,
    Examined,
    Preprocessing,
    decode,
    decoded_for,
    examine,
    fault,
    list_folder,
    list_images,
    prepare,
    prepare_batch,
    prepare_parts,
    rules_for_deep_pixels,
)
from toolkit.printable import printable

WHITE = 255


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(height: int = 5, width: int = 7, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(
        0, 256, (height, width, channels) if channels else (height, width), dtype=np.uint8
    )


def png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, for pixel types that Pillow cannot save."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    transparency = chunk(b"tRNS", extra) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + header + transparency + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def squash(size: int = 4, **changes: object) -> Preprocessing:
    return Preprocessing.model_validate(
        {"height": size, "width": size, "resize": "squash", "interpolation": "bilinear", **changes}
    )


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + WHITE * (1 - share)


class TestColor:
    def test_rgb_keeps_its_pixels(self) -> None:
        pixels = noise()
        decoded = decode(encoded(Image.fromarray(pixels), "PNG"))
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, pixels)

    @pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
    def test_grey_is_repeated(self, format: str) -> None:
        grey = noise(channels=0)
        np.testing.assert_array_equal(
            decode(encoded(Image.fromarray(grey), format)), np.repeat(grey[..., None], 3, axis=2)
        )

    def test_bilevel_is_black_and_white(self) -> None:
        bits = noise(channels=0) > 127
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(bits), "PNG"))[..., 0], np.where(bits, 255, 0))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_composited_on_white(self, mode: str) -> None:
        image = Image.fromarray(noise(channels=4)).convert(mode)
        rgba = np.asarray(image.convert("RGBA"))
        np.testing.assert_allclose(decode(encoded(image, "PNG")), on_white(rgba[..., :3], rgba[..., 3]), atol=1)

    def test_fully_transparent_is_white_whatever_lies_beneath(self) -> None:
        assert decode(encoded(Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "PNG")).min() == WHITE

    def test_palette_is_looked_up(self) -> None:
        image = Image.fromarray(noise()).quantize(8)
        np.testing.assert_array_equal(decode(encoded(image, "PNG")), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
    def test_transparent_palette_entries_are_composited_on_white(self, transparency: int | bytes) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.putdata([0, 1, 2])
        decoded = decode(encoded(image, "PNG", transparency=transparency))[0]
        assert decoded[0].tolist() == [255, 0, 0]
        assert decoded[1].tolist() == [WHITE] * 3
        np.testing.assert_allclose(decoded[2], [0, 0, 255] if transparency == 1 else [127, 127, 255], atol=1)

    def test_transparent_color_of_an_rgb_png_is_white(self) -> None:
        image = Image.new("RGB", (2, 1), (9, 8, 7))
        image.putpixel((1, 0), (1, 2, 3))
        assert decode(encoded(image, "PNG", transparency=(1, 2, 3)))[0].tolist() == [[9, 8, 7], [WHITE] * 3]

    @pytest.mark.parametrize("format", ["JPEG", "TIFF"])
    def test_cmyk(self, format: str) -> None:
        # Pillow's JPEG carries Adobe's marker and inverted values, as Photoshop writes them.
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        np.testing.assert_allclose(decode(encoded(image, format)), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=3)

    def test_ycbcr_of_pillow(self) -> None:
        image = Image.new("RGB", (4, 4), (200, 30, 60))
        np.testing.assert_allclose(decode(image.convert("YCbCr")), decode(image), atol=2)


class TestSixteenBit:
    VALUES = np.array([[0, 255, 256, 257], [32767, 32768, 65279, 65535]], np.uint16)

    @pytest.mark.parametrize(("format", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
    def test_grey_takes_the_high_byte(self, format: str, order: str) -> None:
        decoded = decode(encoded(Image.fromarray(self.VALUES.astype(order)), format))
        np.testing.assert_array_equal(decoded, np.repeat((self.VALUES >> 8)[..., None], 3, axis=2))

    def test_color_takes_the_high_byte(self) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (2, 3, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        np.testing.assert_array_equal(decode(png(3, 2, 16, 2, rows)), values >> 8)

    def test_transparent_grey_is_white(self) -> None:
        rows = b"\0" + np.array([1000, 2000], ">u2").tobytes()
        assert decode(png(2, 1, 16, 0, rows, extra=struct.pack(">H", 1000)))[0, :, 0].tolist() == [WHITE, 2000 >> 8]

    def test_integers_in_range_are_sixteen_bit(self) -> None:
        np.testing.assert_array_equal(decode(Image.fromarray(self.VALUES.astype(np.int32)))[..., 0], self.VALUES >> 8)

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_integers_out_of_range_are_refused(self, value: int) -> None:
        with pytest.raises(ImageError, match=r"outside 0\.\.65535"):
            decode(encoded(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF"))

    def test_floating_point_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"pixel type F.*--sixteen-bit scale"):
            decode(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))

    def test_a_color_space_without_a_way_to_rgb_is_refused(self) -> None:
        with pytest.raises(ImageError, match="pixel type LAB has no way to RGB here; save it as RGB or grey"):
            decode(encoded(Image.new("LAB", (2, 2)), "TIFF"))


def linear(low: float, high: float, size: int = 4) -> Preprocessing:
    return squash(size, **rules_for_deep_pixels(linear_rule(low, high)))


class TestLinear:
    VALUES = np.array([[0, 5, 2048, 4095], [5000, 65535, 8, 9], [0, 0, 0, 0], [4095, 4095, 4095, 4095]], np.uint16)

    @pytest.mark.parametrize(("format", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")])
    def test_twelve_bits_fill_the_range(self, format: str, order: str) -> None:
        image = Image.fromarray(self.VALUES.astype(order))
        expected = (np.minimum(self.VALUES.astype(int), 4095) * 510 + 4095) // 8190
        for source in (encoded(image, format), image):
            np.testing.assert_array_equal(prepare(source, linear(0, 4095)), np.repeat(expected[..., None], 3, axis=2))

    def test_floating_point_and_integers_below_zero(self) -> None:
        values = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
        prepared = prepare(encoded(Image.fromarray(values), "TIFF"), linear(-1, 1))[..., 0]
        np.testing.assert_array_equal(prepared, np.floor((values.astype(float) + 1) * 255 / 2 + 0.5))
        hounsfield = np.full((4, 4), -1024, np.int32)
        assert prepare(Image.fromarray(hounsfield), linear(-1024, 3071)).max() == 0

    def test_one_image_is_read_as_it_is_among_others(self) -> None:
        dark, bright = (Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (100, 4000))
        alone, together = prepare(dark, linear(0, 4095)), prepare_batch([bright, dark], linear(0, 4095))[1]
        np.testing.assert_array_equal(alone, together)
        assert alone.max() == 6

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, value: float) -> None:
        values = np.ones((4, 4), np.float32)
        values[2, 1] = value
        with pytest.raises(ImageError, match="values that are not finite"):
            prepare(Image.fromarray(values), linear(0, 1))

    def test_eight_bits_are_left_as_they_are(self) -> None:
        for source in (noise(4, 4), Image.fromarray(noise(4, 4, channels=0)), noise(4, 4, channels=4)):
            np.testing.assert_array_equal(prepare(source, linear(0, 4095)), prepare(source, squash()))

    @pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_sixteen_bits_in_colour_are_refused(self, color: int, channels: int) -> None:
        rows = (b"\0" + bytes(2 * 4 * channels)) * 4
        assert prepare(png(4, 4, 16, color, rows), squash()).shape == (4, 4, 3)
        with pytest.raises(ImageError, match="16 bits per channel, of which only the high byte can be had"):
            prepare(png(4, 4, 16, color, rows), linear(0, 4095))

    def test_transparent_grey_is_white(self) -> None:
        rows = b"\0" + np.array([1000, 2000], ">u2").tobytes()
        prepared = prepare(png(2, 1, 16, 0, rows, extra=struct.pack(">H", 1000)), linear(0, 4095, 2))
        assert prepared[0, :, 0].tolist() == [WHITE, (2000 * 510 + 4095) // 8190]


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


class TestOrientation:
    EXPECTED: ClassVar = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_is_applied_once(self, orientation: int, format: str) -> None:
        pixels = noise()
        exif = Image.Exif()
        exif[0x0112] = orientation
        decoded = decode(
            encoded(Image.fromarray(pixels), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
        )
        np.testing.assert_array_equal(decoded, self.EXPECTED[orientation](pixels))

    def test_jpeg_and_pillow_image(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        content = encoded(Image.fromarray(noise(8, 16)), "JPEG", exif=exif)
        assert decode(content).shape == (16, 8, 3)
        np.testing.assert_array_equal(decode(Image.open(io.BytesIO(content))), decode(content))

    @pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01"])
    def test_unreadable_exif_is_ignored(self, exif: bytes) -> None:
        pixels = noise()
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG", exif=exif)), pixels)


class TestContainers:
    @pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_first_frame_of_several(self, format: str) -> None:
        frames = [Image.new("RGB", (6, 4), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
        options = {"lossless": True} if format == "WEBP" else {}
        decoded = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
        np.testing.assert_array_equal(decoded, np.asarray(frames[0]))

    def test_multi_picture_jpeg(self) -> None:
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        np.testing.assert_allclose(
            decode(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])), np.asarray(frames[0]), atol=3
        )

    @pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow is built without JPEG 2000")
    def test_jpeg_2000(self) -> None:
        pixels = noise(16, 16)
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "JPEG2000", irreversible=False)), pixels)

    @pytest.mark.parametrize("name", ["图像.png", "صورة.png", "🦊 fox.png", "ça va.PNG", "नमूना.png"])
    def test_names_in_any_script(self, tmp_path: Path, name: str) -> None:
        pixels = noise()
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), pixels)
        np.testing.assert_array_equal(decode(str(tmp_path / name)), pixels)

    def test_the_content_decides_not_the_suffix(self, tmp_path: Path) -> None:
        path = tmp_path / "really-a-png.jpg"
        path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
        np.testing.assert_array_equal(decode(path), noise())

    def test_formats_that_start_other_programs_are_refused(self) -> None:
        with pytest.raises(ImageError, match="none of the formats"):
            decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n")


class TestArrays:
    @pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
    def test_grey(self, shape: tuple[int, ...]) -> None:
        grey = noise(channels=0)
        np.testing.assert_array_equal(decode(grey.reshape(shape)), np.repeat(grey[..., None], 3, axis=2))

    def test_rgb_is_not_copied(self) -> None:
        pixels = noise()
        assert decode(pixels) is pixels

    def test_strided_rgb(self) -> None:
        decoded = decode(noise()[:, ::-1])
        assert decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, noise()[:, ::-1])

    def test_alpha(self) -> None:
        rgba = noise(channels=4)
        np.testing.assert_allclose(decode(rgba), on_white(rgba[..., :3], rgba[..., 3]), atol=1)

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((4, 4, 3), np.float32), "float32.*uint8"),
            (np.zeros((4, 4), bool), "bool.*uint8"),
            (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\].*\[h, w, 3\]"),
            (np.zeros((3, 4, 5), np.uint8), r"\[3, 4, 5\]"),
            (np.zeros((0, 4, 3), np.uint8), "no pixels"),
            (np.zeros((4, 0), np.uint8), "no pixels"),
        ],
    )
    def test_others_are_refused(self, array: np.ndarray, words: str) -> None:
        with pytest.raises(ImageError, match=words):
            decode(array)


class TestRefusals:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"gone\.png cannot be read as an image: there is no such file"):
            decode(tmp_path / "gone.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="it is a folder"):
            decode(tmp_path)

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        with pytest.raises(ImageError, match=r"empty\.jpg.*is empty"):
            decode(tmp_path / "empty.jpg")

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "notes.png").write_text("not a picture")
        with pytest.raises(ImageError, match=r"notes\.png.*none of the formats BMP"):
            decode(tmp_path / "notes.png")

    def test_truncated_file(self, tmp_path: Path) -> None:
        (tmp_path / "half.jpg").write_bytes(encoded(Image.fromarray(noise(64, 64)), "JPEG")[:-600])
        with pytest.raises(ImageError, match=r"half\.jpg.*damaged"):
            decode(tmp_path / "half.jpg")

    @pytest.mark.parametrize("source", [b"", ""])
    def test_nothing(self, source: bytes | str) -> None:
        with pytest.raises(ImageError, match="it is empty"):
            decode(source)

    def test_what_the_system_says(self) -> None:
        with pytest.raises(ImageError, match="File name too long"):
            decode("x" * 5000)

    def test_null_byte_in_a_path(self) -> None:
        with pytest.raises(ImageError, match="null byte"):
            decode("a\0b.png")

    @pytest.mark.parametrize("source", [None, 3, [[1, 2], [3, 4]]])
    def test_other_types(self, source: object) -> None:
        with pytest.raises(ImageError, match="give a path"):
            decode(source)  # type: ignore[arg-type]  # the mistake under test

    def test_closed_pillow_image(self, tmp_path: Path) -> None:
        Image.fromarray(noise()).save(tmp_path / "a.png")
        image = Image.open(tmp_path / "a.png")
        image.close()
        with pytest.raises(ImageError, match=r"a Pillow image \(.*a\.png\)"):
            decode(image)

    def test_pillow_image_without_pixels(self) -> None:
        with pytest.raises(ImageError, match="0 x 5: it has no pixels"):
            decode(Image.new("RGB", (0, 5)))

    def test_memory_runs_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(preprocess.Image, "open", refuse)
        with pytest.raises(ImageError, match="more memory"):
            decode(b"anything")

    def test_bomb_is_refused_and_a_large_image_passes_without_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(ImageError, match="more than 200 pixels"):
            decode(encoded(Image.new("L", (201, 1)), "PNG"))
        assert decode(encoded(Image.new("L", (150, 1)), "PNG")).shape == (1, 150, 3)

    def test_fault_tells_why_or_none(self) -> None:
        assert fault(encoded(Image.fromarray(noise()), "PNG")) is None
        assert "none of the formats" in (fault(b"text") or "")
        assert "Git LFS" in (fault(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n") or "")
        assert "a web page" in (fault(b"<!DOCTYPE html><title>429</title>") or "")

    def test_a_bug_is_not_taken_for_a_bad_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise AssertionError

        monkeypatch.setattr(preprocess, "_from_pillow", broken)
        with pytest.raises(AssertionError):
            decode(encoded(Image.fromarray(noise()), "PNG"))


class TestOpenFiles:
    @pytest.mark.parametrize("kind", [bytearray, memoryview, io.BytesIO])
    def test_bytes_of_any_kind(self, kind: Callable[[bytes], Any]) -> None:
        pixels = noise()
        np.testing.assert_array_equal(decode(kind(encoded(Image.fromarray(pixels), "PNG"))), pixels)

    def test_a_file_is_read_from_its_start_and_left_where_it_was(self, tmp_path: Path) -> None:
        pixels = noise()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        with (tmp_path / "a.png").open("rb") as file:
            for opened, at in ((file, 7), (buffer, buffer.tell())):
                opened.seek(at)
                np.testing.assert_array_equal(decode(opened), pixels)
                np.testing.assert_array_equal(decode(opened), pixels)
                assert opened.tell() == at

    def test_one_file_in_several_threads(self, tmp_path: Path) -> None:
        pixels = noise(64, 64)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with (tmp_path / "a.png").open("rb") as file, ThreadPoolExecutor(4) as pool:
            for decoded in pool.map(decode, [file] * 40):
                np.testing.assert_array_equal(decoded, pixels)

    def test_a_stream_that_cannot_go_back(self) -> None:
        content = encoded(Image.fromarray(noise()), "PNG")

        class Response:
            """As urllib and others give one."""

            def __init__(self) -> None:
                self.rest = io.BytesIO(content)

            def read(self, size: int = -1) -> bytes:
                return self.rest.read(min(size, 10))

        np.testing.assert_array_equal(decode(Response()), noise())  # type: ignore[arg-type]  # it reads bytes

    def test_a_stream_without_an_end_is_refused(self) -> None:
        class Endless:
            def read(self, size: int) -> bytes:
                return bytes(size)

        with pytest.raises(ImageError, match="it has more than 160000 bytes"):
            decode(Endless(), max_pixels=10_000)  # type: ignore[arg-type]  # it reads bytes

    @pytest.mark.parametrize("source", [None, [[0, 1], [2, 3]], {"a": 1}, 3, object()])
    def test_other_things_are_named(self, source: object) -> None:
        with pytest.raises(ImageError, match="give a path, the bytes of an image file, a binary file that is open"):
            decode(source)  # type: ignore[arg-type]  # the mistake under test


UNDER_LIMIT = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from toolkit.preprocess import Preprocessing, fault, prepare
preprocessing = Preprocessing(height=32, width=32, resize="squash", interpolation="bilinear")
small = Path(sys.argv[1], "small")
for file in small.iterdir():  # what Pillow imports on first use
    prepare(file, preprocessing)
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
"""


def under_limit(folder: Path, megabytes: int, program: str) -> str:
    """Run a program that may take so much memory more than it has after its imports."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell the size of a process")
    (folder / "small").mkdir(exist_ok=True)
    for name, content in _small_files().items():
        (folder / "small" / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMIT + program, folder, str(megabytes)],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # glibc sets 64 MB of addresses aside for each thread
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bombs() -> dict[str, bytes]:
    """Small files of 30000 x 30000 pixels."""
    side = 30_000
    size = struct.pack(">II", side, side)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    frames = chunk(b"acTL", struct.pack(">II", 100_000, 0))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\1\0\0\0\0")
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    progressive = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG", progressive=True))
    at = progressive.index(b"\xff\xc2")
    progressive[at + 5 : at + 9] = struct.pack(">HH", side, side)
    gif = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    frame = bytearray(gif)
    gif[6:10] = struct.pack("<HH", side, side)
    at = frame.index(b"\x2c", 13)
    frame[at + 5 : at + 9] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + struct.pack("<I", side - 1)[:3] * 2
    tiff = bytearray(encoded(Image.new("L", (8, 8)), "TIFF", compression="tiff_lzw"))
    for tag in (256, 257):
        at = tiff.index(
            struct.pack("<HH", tag, 4) if struct.pack("<HH", tag, 4) in tiff else struct.pack("<HH", tag, 3)
        )
        tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
    codestream = encoded(Image.new("L", (8, 8)), "JPEG2000", no_jp2=True)
    siz = codestream.index(b"\xff\x51")
    codestream = codestream[: siz + 6] + size + bytes(8) + size + codestream[siz + 30 :]
    return {
        "a.png": head + chunk(b"IDAT", zlib.compress(bytes(10**5))) + chunk(b"IEND", b""),
        "animated.png": head + frames + chunk(b"IDAT", zlib.compress(bytes(10**5))) + chunk(b"IEND", b""),
        "a.jpg": bytes(jpeg),
        "progressive.jpg": bytes(progressive),
        "canvas.gif": bytes(gif),
        "frame.gif": bytes(frame),
        "a.bmp": bytes(bmp),
        "a.ppm": b"P6 30000 30000 255 \0\0\0",
        "plain.pbm": b"P1 30000 30000 0 1",
        "a.webp": webp,
        "a.tiff": bytes(tiff),
        "a.j2k": codestream,
    }


class TestBombs:
    def test_a_small_file_of_many_pixels_is_refused_before_it_takes_memory(self, tmp_path: Path) -> None:
        bombs = _bombs()
        assert max(map(len, bombs.values())) < 3000
        for name, content in bombs.items():
            (tmp_path / name).write_bytes(content)
        program = (
            "for file in sorted(Path(sys.argv[1]).iterdir()):\n"
            "    if file.is_file():\n"
            "        print(file.name, fault(file), fault(file.read_bytes()) == fault(file), sep='|')\n"
        )
        lines = under_limit(tmp_path, 64, program).splitlines()
        assert len(lines) == len(bombs)
        for line in lines:
            _, reason, same = line.split("|")
            assert re.match("it has (30000 x 30000 pixels, )?more than 100000000 pixels in all", reason), line
            assert same == "True"

    @pytest.mark.parametrize(
        "content", [b"8BPS\0\1" + bytes(20) + b"\0\x03", b"icns\0\0\x10\0", b"\0\0\1\0\1\0" + bytes(40)]
    )
    def test_formats_that_are_not_read_promise_nothing(self, content: bytes) -> None:
        assert "none of the formats" in (fault(content) or "")

    def test_threads_together_take_no_more_than_one_image_may(self, tmp_path: Path) -> None:
        # Each takes 20 to 80 MB; all eight at once would take far more than there is.
        for name, image, options in (
            ("a.gif", Image.new("P", (2000, 2000)), {}),
            ("b.png", Image.new("RGBA", (2000, 2000)), {}),
            ("c.webp", Image.new("RGB", (2000, 2000)), {"lossless": True, "method": 0}),
            ("d.tiff", Image.new("RGB", (2000, 2000)), {"compression": "tiff_lzw"}),
        ):
            image.save(tmp_path / name, **options)
        program = (
            "files = [file for file in sorted(Path(sys.argv[1]).iterdir()) if file.is_file()] * 6\n"
            "import threading; threading.stack_size(2**18)\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    list(pool.map(lambda file: prepare(file, preprocessing, 4_000_000), files))\n"
        )
        under_limit(tmp_path, 150, program)

    def test_a_hundred_thousand_frames_are_one(self) -> None:
        frame = Image.new("RGB", (4, 4), (255, 0, 0))
        gif = encoded(frame, "GIF")
        block = gif[gif.index(b"\x2c", 13) : -1]
        two = encoded(frame, "WEBP", save_all=True, append_images=[Image.new("RGB", (4, 4))], lossless=True)
        animation = two[two.index(b"ANMF") :]
        body = two[12 : two.index(b"ANMF")] + animation * 50_000
        webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
        pages = encoded(frame, "TIFF", save_all=True, append_images=[frame] * 50)
        for content in (gif[:-1] + block * 100_000 + b";", webp, pages):
            decoded = decode(content)
            assert decoded.shape == (4, 4, 3)
            assert decoded[0, 0].tolist() == [255, 0, 0]

    def test_a_larger_limit_than_pillows_own_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preprocess, "MAX_PIXELS", 100)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
        content = encoded(Image.new("L", (30, 10)), "PNG")
        with pytest.raises(ImageError, match="30 x 10 pixels, more than 299"):
            decode(content, max_pixels=299)
        assert decode(content, max_pixels=300).shape == (10, 30, 3)

    def test_a_lazy_pillow_image_is_refused_before_it_is_loaded(self) -> None:
        image = Image.open(io.BytesIO(encoded(Image.new("L", (30, 10)), "PNG")))
        with pytest.raises(ImageError, match="more than 299"):
            decode(image, max_pixels=299)

    def test_a_model_of_an_absurd_size_is_refused_before_anything_is_scaled(self) -> None:
        with pytest.raises(ImageError, match="the model's input has 65536 x 65536 pixels, more than the 100000000"):
            prepare(noise(), squash(65_536))

    def test_a_picture_that_a_crop_would_scale_up_counts_as_large_as_it_gets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claimed: list[int] = []
        monkeypatch.setattr(preprocess.BUDGET, "take", lambda pixels, _: claimed.append(pixels))
        prepare(encoded(Image.new("L", (10, 1000)), "PNG"), squash(100, resize="crop"))
        assert max(claimed) == 100 * 10_000

    def test_too_many_scans_are_refused(self) -> None:
        content = encoded(Image.fromarray(noise(16, 16)), "JPEG", progressive=True)
        last = content.rindex(b"\xff\xda")
        with pytest.raises(ImageError, match="more than 100 scans"):
            decode(content[:-2] + content[last:-2] * 200 + content[-2:])
        assert decode(content).shape == (16, 16, 3)

    def test_exif_that_would_be_read_a_thousand_times_is_ignored(self) -> None:
        directory = struct.pack("<H", 60) + b"".join(struct.pack("<HHII", 700 + tag, 7, 10**6, 8) for tag in range(60))
        exif = b"Exif\0\0II*\0\x08\0\0\0" + directory + bytes(4)
        assert decode(encoded(Image.fromarray(noise()), "PNG", exif=exif)).shape == (5, 7, 3)


def _small_files() -> dict[str, bytes]:
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


@pytest.mark.parametrize("kind", sorted(_small_files()))
def test_damaged_files_give_an_array_or_an_image_error(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A flipped byte in a header can promise a picture of gigabytes; a lower limit keeps this test small.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    content = _small_files()[kind]
    rng = np.random.default_rng(0)
    variants = [content[:length] for length in range(1, len(content), max(1, len(content) // 60))]
    for flips in (1, 4):
        for _ in range(80):
            damaged = np.frombuffer(content, np.uint8).copy()
            where = rng.integers(0, min(len(damaged), 400), flips)
            damaged[where] ^= rng.integers(1, 256, flips, dtype=np.uint8)
            variants.append(damaged.tobytes())
    messages: list[str] = []
    for variant in variants:
        try:
            decoded = decode(variant)
        except ImageError as error:
            messages.append(str(error))
        else:
            assert decoded.dtype == np.uint8
            assert decoded.ndim == 3
            assert decoded.shape[2] == 3
    assert len(messages) > len(variants) // 20
    assert not [message for message in messages if "\n" in message]
    capfd.readouterr()  # libtiff prints its own complaints; they are not part of what is tested


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A small image file with some bytes changed, taken out, doubled or added."""
    content = bytearray(_small_files()[draw(st.sampled_from(sorted(_small_files())))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(content), 400) - 1)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8), st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff", b"\xff\xda"])
            )
        )
        kind = draw(st.sampled_from(["replace", "insert", "cut", "double", "end"]))
        if kind == "replace":
            content[at : at + len(piece)] = piece
        elif kind == "insert":
            content[at:at] = piece
        elif kind == "cut":
            del content[at : at + 1 + draw(st.integers(0, 30))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(0, 60))]
        else:
            del content[max(1, at) :]
    return bytes(content)


@given(content=st.one_of(damaged(), st.binary(max_size=200)), crop=st.booleans())
@FUZZ
def test_fuzz_any_bytes_give_pixels_or_a_sentence(
    capfd: pytest.CaptureFixture[str], content: bytes, crop: bool
) -> None:
    preprocessing = squash(8, resize="crop" if crop else "squash")
    try:
        prepared = prepare(content, preprocessing, max_pixels=500_000)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
        assert (prepared.shape, prepared.dtype) == ((8, 8, 3), np.uint8)
    assert "\n" not in message
    capfd.readouterr()  # libtiff prints its own complaints; they are not part of what is tested


class TestWarnings:
    def test_filters_are_left_as_they_were(self) -> None:
        before = list(warnings.filters)
        decode(encoded(Image.fromarray(noise()), "PNG"))
        fault(b"text")
        assert list(warnings.filters) == before

    def test_threads_that_overlap_leave_nothing_behind(self) -> None:
        before = list(warnings.filters)
        content = encoded(Image.fromarray(noise(64, 64)), "JPEG")
        threads = [threading.Thread(target=lambda: [decode(content) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before

    def test_warnings_of_pillow_are_not_shown(self) -> None:
        exif = Image.Exif()
        exif[0x010E] = "x" * 100
        content = encoded(Image.fromarray(noise()), "TIFF", exif=exif)[:-40]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fault(content)
        assert caught == []


class TestPrepare:
    @pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
    def test_squash_is_pillows_resize(self, name: str) -> None:
        pixels = noise(40, 30)
        expected = np.asarray(Image.fromarray(pixels).resize((12, 8), Image.Resampling[name.upper()]))
        np.testing.assert_array_equal(prepare(pixels, squash(height=8, width=12, interpolation=name)), expected)

    def test_the_right_size_is_untouched(self) -> None:
        for resize in ("squash", "crop"):
            np.testing.assert_array_equal(
                prepare(noise(8, 8), squash(8, resize=resize, interpolation="lanczos")), noise(8, 8)
            )

    @pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (8, 8), (1, 2)])
    def test_crop_scales_the_short_side_and_takes_the_centre(self, height: int, width: int) -> None:
        pixels = noise(height, width)
        short = round(16 / 0.875)
        scaled = (
            (short, int(short * height / width + 0.5)) if width < height else (int(short * width / height + 0.5), short)
        )
        resized = np.asarray(Image.fromarray(pixels).resize(scaled, Image.Resampling.BILINEAR))
        top, left = (scaled[1] - 16) // 2, (scaled[0] - 16) // 2
        prepared = prepare(pixels, squash(16, resize="crop", crop_fraction=0.875))
        np.testing.assert_array_equal(prepared, resized[top : top + 16, left : left + 16])

    @pytest.mark.parametrize("size", [(10, 100), (100, 10), (33, 34)])
    def test_crop_to_a_target_that_is_not_square(self, size: tuple[int, int]) -> None:
        prepared = prepare(noise(*size), squash(height=20, width=30, resize="crop", crop_fraction=0.9))
        assert prepared.shape == (20, 30, 3)

    def test_crop_of_a_thread_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"too thin.*squash"):
            prepare(np.zeros((1, 60_000), np.uint8), squash(224, resize="crop"))

    def test_batch_equals_single_images(self, tmp_path: Path) -> None:
        Image.fromarray(noise(9, 9, seed=3)).save(tmp_path / "a.png")
        sources = [
            noise(),
            tmp_path / "a.png",
            encoded(Image.fromarray(noise(seed=2)), "PNG"),
            Image.fromarray(noise(channels=0)),
        ]
        batch = prepare_batch(sources, squash(6))
        assert batch.shape == (4, 6, 6, 3)
        assert batch.dtype == np.uint8
        for row, source in zip(batch, sources, strict=True):
            np.testing.assert_array_equal(row, prepare(source, squash(6)))

    def test_empty_batch(self) -> None:
        assert prepare_batch([], squash(6)).shape == (0, 6, 6, 3)

    def test_batch_names_the_bad_image(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"bad\.png"):
            prepare_batch([noise(), tmp_path / "bad.png"], squash(6))


def reduced(size: int = 4, **changes: object) -> Preprocessing:
    return squash(size, decode=preprocess.DECODE_RULES["reduced"], **changes)


def full(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing.model_copy(update={"decode": preprocess.DECODE_RULES["full"]})


def ramps(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is the larger of the two: a shift or a turn shows anywhere."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)
    down, across = 255 * down / (height - 1), 255 * across / (width - 1)
    return np.stack([across, down, np.maximum(across, down)], axis=2).round().astype(np.uint8)


def jpeg(pixels: np.ndarray, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), "JPEG", **{"quality": 95, "subsampling": 0, "exif": exif, **options})


def lossless_jpeg(height: int, width: int) -> bytes:
    """Write a grey lossless JPEG by hand: every pixel is as predicted, which is 128, and takes one bit."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    frame = segment(0xC3, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0))
    table = segment(0xC4, bytes([0, 1, *(0,) * 15, 0]))
    scan = segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    return b"\xff\xd8" + frame + table + scan + bytes(-(-height * width // 8)) + b"\xff\xd9"


def furthest(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


class TestReduced:
    """Large JPEGs are decoded at a half, a quarter or an eighth, and it hardly shows."""

    @pytest.mark.parametrize("part", [2, 4, 8])
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop", "crop_fraction": 0.5}])
    def test_each_part_begins_where_both_sides_are_twice_as_long_as_resized(
        self, part: int, crop: dict[str, object]
    ) -> None:
        how = reduced(height=4, width=6, **crop)
        width, height = preprocess.smallest_reduced(part, how)
        assert (width, height) == ((2 * part * 12, 2 * part * 8) if crop else (2 * part * 6, 2 * part * 4))
        assert decoded_for(jpeg(noise(height, width)), how).size == (width // part, height // part)
        before = part // 2
        for fewer in ((height - 1, width), (height, width - 1)):
            size = tuple(-(-side // before) for side in reversed(fewer))
            assert decoded_for(jpeg(noise(*fewer)), how).size == size

    def test_there_is_no_smaller_part_than_an_eighth(self) -> None:
        assert decoded_for(jpeg(noise(400, 401)), reduced(2)).size == (51, 50)

    @pytest.mark.parametrize("part", [2, 4, 8])
    @pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"progressive": True}])
    def test_it_is_what_opencv_reads_at_that_part(self, part: int, options: dict[str, object]) -> None:
        cv2 = pytest.importorskip("cv2", reason="OpenCV, which the extra 'dev' brings, is not installed")
        content = jpeg(noise(16 * part + 3, 16 * part + 5), quality=80, **options)
        flag = getattr(cv2, f"IMREAD_REDUCED_COLOR_{part}")
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), flag)[..., ::-1]
        assert furthest(np.asarray(decoded_for(content, reduced(8))), theirs) <= 2

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(65, 79), (64, 71), (33, 38)])
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop"}])
    def test_no_pixel_moves(self, orientation: int, size: tuple[int, int], crop: dict[str, object]) -> None:
        how = reduced(height=4, width=4, **crop)
        content = jpeg(ramps(*size), orientation)
        with Image.open(io.BytesIO(content)) as opened:
            assert decoded_for(content, how).width < min(opened.size)
        assert furthest(prepare(content, how), prepare(content, full(how))) <= 6
        assert furthest(prepare(content, how), prepare(TestOrientation.EXPECTED[orientation](ramps(*size)), how)) <= 6

    def test_a_turned_picture_is_judged_by_its_sides_as_they_are_seen(self) -> None:
        lying, standing = jpeg(noise(40, 80)), jpeg(noise(40, 80), orientation=6)
        assert decoded_for(lying, reduced(height=10, width=20)).size == (40, 20)
        assert decoded_for(standing, reduced(height=10, width=20)).size == (40, 80)
        assert decoded_for(standing, reduced(height=20, width=10)).size == (20, 40)

    @pytest.mark.parametrize("mode", ["L", "CMYK", "YCCK"])
    def test_colours_stay_what_they_are(self, mode: str) -> None:
        image = Image.fromarray(ramps(70, 90)).convert("L" if mode == "L" else "CMYK")
        content = encoded(image, "JPEG", quality=95)
        if mode == "YCCK":  # which Pillow reads and does not write: Adobe's marker says how colours are stored
            at = content.index(b"Adobe") + 11
            content = content[:at] + b"\2" + content[at + 1 :]
        how = reduced(8)
        assert decoded_for(content, how).size == (23, 18)
        assert furthest(prepare(content, how), prepare(content, full(how))) <= 4

    def test_the_first_picture_of_several(self) -> None:
        first, second = Image.fromarray(ramps(64, 64)), Image.new("RGB", (64, 64), "blue")
        content = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
        assert decoded_for(content, reduced(4)).size == (8, 8)
        assert furthest(prepare(content, reduced(4)), prepare(first, reduced(4))) <= 4
        later = Image.open(io.BytesIO(content))
        later.seek(1)
        assert furthest(prepare(later, reduced(4)), prepare(second, reduced(4))) <= 4

    @pytest.mark.parametrize(
        ("format", "options"),
        [("PNG", {}), ("WEBP", {}), ("TIFF", {"compression": "jpeg"}), ("BMP", {}), ("GIF", {})],
    )
    def test_other_files_are_decoded_in_full(self, format: str, options: dict[str, object]) -> None:
        content = encoded(Image.fromarray(noise(64, 64)), format, **options)
        assert decoded_for(content, reduced(4)).size == (64, 64)
        np.testing.assert_array_equal(prepare(content, reduced(4)), prepare(content, squash(4)))

    def test_small_files_are_decoded_in_full(self) -> None:
        content = jpeg(noise(31, 64))
        np.testing.assert_array_equal(prepare(content, reduced(8)), prepare(content, squash(8)))

    def test_a_lossless_jpeg_has_no_part_and_is_decoded_in_full(self) -> None:
        """Not every libjpeg reads one; those that do have no part of it to give."""
        content = lossless_jpeg(64, 640)
        if fault(content) is not None:
            pytest.skip("the libjpeg of this Pillow reads no lossless JPEG")
        for source in (content, Image.open(io.BytesIO(content))):
            assert decoded_for(source, reduced(4)).size == (640, 64)
            assert np.unique(prepare(source, reduced(4))).tolist() == [128]

    def test_decode_gives_an_images_own_size(self) -> None:
        assert decode(jpeg(noise(64, 72))).shape == (64, 72, 3)

    def test_a_linear_rule_makes_no_difference(self) -> None:
        content = jpeg(noise(64, 64))
        deep = Preprocessing.model_validate({**reduced(4).model_dump(), **rules_for_deep_pixels(linear_rule(0, 4095))})
        np.testing.assert_array_equal(prepare(content, deep), prepare(content, reduced(4)))

    def test_without_the_field_it_is_full(self) -> None:
        raw = squash().model_dump()
        del raw["decode"]
        assert not Preprocessing.model_validate(raw).reduced
        assert Preprocessing.model_validate(raw) == squash()

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    def test_every_way_to_hand_a_file_over(self, resize: str, tmp_path: Path) -> None:
        how, content = reduced(4, resize=resize), jpeg(noise(70, 90), orientation=8)
        (tmp_path / "a.jpg").write_bytes(content)
        expected = prepare(content, how)
        assert furthest(expected, prepare(content, full(how))) > 0
        with (tmp_path / "a.jpg").open("rb") as file, Image.open(tmp_path / "a.jpg") as image:
            for source in (tmp_path / "a.jpg", bytearray(content), file, io.BytesIO(content), image):
                np.testing.assert_array_equal(prepare(source, how), expected)

    def test_a_pillow_image_is_its_file_until_it_is_decoded_and_stays_as_it_was(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(content, reduced(4)))
        assert image.size == (64, 64)
        np.testing.assert_array_equal(np.asarray(image), decode(content))
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(content, squash(4)))

    def test_a_pillow_image_whose_orientation_was_taken_away_is_not_turned(self) -> None:
        image = Image.open(io.BytesIO(jpeg(ramps(64, 64), orientation=6)))
        image.getexif()[0x0112] = 1
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(jpeg(ramps(64, 64)), reduced(4)))

    def test_a_pillow_image_that_its_owner_makes_smaller_is_read_as_that(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        image.draft(None, (32, 32))
        assert prepare(image, reduced(4)).shape == (4, 4, 3)
        assert image.size == (32, 32)

    def test_one_pillow_image_in_many_threads(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        expected = prepare(content, reduced(4))
        with ThreadPoolExecutor(8) as pool:
            for pixels in pool.map(lambda _: prepare(image, reduced(4)), range(40)):
                np.testing.assert_array_equal(pixels, expected)

    def test_a_closed_pillow_image(self) -> None:
        image = Image.open(io.BytesIO(jpeg(noise(64, 64))))
        image.close()
        with pytest.raises(ImageError, match="a Pillow image"):
            prepare(image, reduced(4))

    def test_what_counts_is_the_size_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = jpeg(noise(64, 64))
        for source in (content, Image.open(io.BytesIO(content))):
            with pytest.raises(ImageError, match="64 x 64 pixels, more than 4095"):
                prepare(source, reduced(4), 4095)
        claimed: list[int] = []
        monkeypatch.setattr(preprocess.BUDGET, "take", lambda pixels, _: claimed.append(pixels))
        prepare(content, reduced(4))
        assert max(claimed) == 64 * 64

    def test_a_file_that_ends_early_is_refused(self) -> None:
        content = jpeg(noise(256, 256))
        for source in (content[: len(content) // 2], Image.open(io.BytesIO(content[: len(content) // 2]))):
            with pytest.raises(ImageError, match="truncated"):
                prepare(source, reduced(4))

    def test_too_many_scans_are_refused(self) -> None:
        content = jpeg(noise(64, 64), progressive=True)
        last = content.rindex(b"\xff\xda")
        with pytest.raises(ImageError, match="more than 100 scans"):
            prepare(content[:-2] + content[last:-2] * 200 + content[-2:], reduced(4))

    def test_a_thread_is_too_thin_by_its_own_size(self) -> None:
        with pytest.raises(ImageError, match=r"60000 x 1 pixels: too thin.*squash"):
            prepare(jpeg(np.zeros((1, 60_000, 3), np.uint8)), reduced(224, resize="crop"))


class TestParts:
    """Parts of an image, as training augments, from the pixels that the whole is made of."""

    HOWS: ClassVar = [{}, {"resize": "crop"}, {"resize": "crop", "crop_fraction": 0.8}]

    @pytest.mark.parametrize("how", HOWS)
    def test_the_whole_is_what_is_prepared(self, how: dict[str, object]) -> None:
        image, preprocessing = noise(19, 31), squash(8, **how)
        parts = prepare_parts(image, preprocessing, [WHOLE, (0.0, 0.0, 0.5, 0.5), WHOLE])
        assert parts.shape == (3, 8, 8, 3)
        np.testing.assert_array_equal(parts[0], prepare(image, preprocessing))
        np.testing.assert_array_equal(parts[2], parts[0])
        assert not np.array_equal(parts[1], parts[0])

    def test_a_part_that_has_the_size_is_cut_out(self) -> None:
        image = noise(8, 8)
        (middle,) = prepare_parts(image, squash(4), [(0.25, 0.375, 0.75, 0.875)])
        np.testing.assert_array_equal(middle, image[3:7, 2:6])

    def test_of_what_is_cropped_it_is_a_part_of_the_middle(self) -> None:
        image = noise(4, 8)
        (right,) = prepare_parts(image, squash(4, resize="crop"), [(0.5, 0.0, 1.0, 1.0)])
        wanted = Image.fromarray(image).resize((4, 4), Image.Resampling.BILINEAR, (4, 0, 6, 4))
        np.testing.assert_array_equal(right, np.asarray(wanted))

    @pytest.mark.parametrize("how", HOWS)
    def test_it_lies_where_it_lies_in_the_prepared_image(self, how: dict[str, object]) -> None:
        """Ramps stay ramps: half of the prepared image, enlarged, is the part."""
        image, preprocessing = ramps(160, 200), squash(40, **how)
        (part,) = prepare_parts(image, preprocessing, [(0.25, 0.5, 0.75, 1.0)])
        whole = Image.fromarray(prepare(image, preprocessing))
        wanted = whole.resize((40, 40), Image.Resampling.BILINEAR, (10, 20, 30, 40))
        assert furthest(part[2:-2, 2:-2], np.asarray(wanted)[2:-2, 2:-2]) <= 4

    def test_it_is_as_sharp_as_the_decoded_image(self) -> None:
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        whole, part = prepare_parts(stripes, squash(16), [WHOLE, (0.0, 0.0, 0.25, 0.25)])
        assert np.ptp(whole[:, 1:-1]) < 40
        np.testing.assert_array_equal(part, stripes[:16, :16])

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop"}])
    def test_of_a_jpeg_decoded_at_a_part_of_its_size_no_pixel_moves(
        self, orientation: int, crop: dict[str, object]
    ) -> None:
        how, content = reduced(8, **crop), jpeg(ramps(65, 79), orientation)
        parts = [(0.1, 0.0, 0.8, 0.6), (0.4, 0.3, 1.0, 1.0)]
        assert furthest(prepare_parts(content, how, parts), prepare_parts(content, full(how), parts)) <= 8

    @given(
        st.tuples(st.integers(1, 90), st.integers(1, 90)),
        st.tuples(*[st.floats(0, 0.49)] * 2),
        st.tuples(*[st.floats(0.5, 1)] * 2),
        st.sampled_from(HOWS),
    )
    def test_any_part_of_any_size_can_be_had(
        self, sides: tuple[int, int], begin: tuple[float, float], end: tuple[float, float], how: dict[str, object]
    ) -> None:
        preprocessing = Preprocessing.model_validate({**reduced(4, **how).model_dump(), "width": 6})
        for source in (np.full((*sides, 3), 128, np.uint8), jpeg(np.full((*sides, 3), 128, np.uint8))):
            parts = prepare_parts(source, preprocessing, [(*begin, *end), WHOLE])
            assert parts.shape == (2, 4, 6, 3)
            assert np.unique(parts).tolist() == [128]

    def test_a_bad_image_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"bad\.png"):
            prepare_parts(tmp_path / "bad.png", squash(6), [WHOLE])


class TestPreprocessing:
    def test_round_trip(self) -> None:
        assert Preprocessing.model_validate_json(squash().model_dump_json()) == squash()

    @pytest.mark.parametrize(
        "change",
        [
            {"sixteen_bit": "low byte"},
            {"sixteen_bit": linear_rule(0, 4095)},
            {"sixteen_bit": "linear: 9..3 to 0..255, rounded half up, clipped"},
            {"height": 0},
            {"crop_fraction": 0},
            {"crop_fraction": 1.1},
            {"alpha": "on black"},
            {"decode": "reduced"},
            {"unknown": 1},
        ],
    )
    def test_other_rules_are_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            squash(**change)


class TestListImages:
    def test_files_that_are_no_images_are_listed_apart(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "b.CR2", "c/README", "c/notes.txt", "Thumbs.db", "__MACOSX/x.jpg", "._a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        listing = list_folder(tmp_path)
        assert [path.name for path in listing.images] == ["a.jpg"]
        assert [path.name for path in listing.others] == ["b.CR2", "README", "notes.txt"]

    def test_without_a_suffix_the_content_decides(self, tmp_path: Path) -> None:
        content = encoded(Image.fromarray(noise()), "PNG")
        for name, written in (("a", content), ("2019.07.14", content), ("b", b"BM is no bitmap"), ("c.txt", content)):
            (tmp_path / name).write_bytes(written)
        (tmp_path / "link").symlink_to(tmp_path / "gone")
        assert [path.name for path in list_images(tmp_path)] == ["2019.07.14", "a"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
    def test_a_pipe_without_a_suffix_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert list_images(tmp_path) == []

    def test_sorted_recursive_and_without_hidden_files(self, tmp_path: Path) -> None:
        for name in ["b/2.PNG", "b/10.png", "a.jpg", "é.webp", "notes.txt", ".hidden.png", ".git/x.png", "b/.DS_Store"]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
            "a.jpg",
            "b/10.png",
            "b/2.PNG",
            "é.webp",
        ]

    def test_links_are_followed_once(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.png").touch()
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "pictures" / "loop").symlink_to(tmp_path / "pictures")
        (tmp_path / "pictures" / "b.png").symlink_to(tmp_path / "real" / "a.png")
        assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path / "pictures")] == [
            "pictures/b.png",
            "pictures/linked/a.png",
        ]

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="gone cannot be listed"):
            list_images(tmp_path / "gone")

    @pytest.mark.skipif(os.name == "nt", reason="Windows file names are Unicode")
    def test_names_that_are_not_utf8_can_be_printed(self) -> None:
        assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
